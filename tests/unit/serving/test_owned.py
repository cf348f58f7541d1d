"""A process on record is stopped, and no other."""

import dataclasses

import psutil

from serving.owned import Owned
from tests.unit.serving.sleeper import sleeper


def test_only_the_very_process_is_stopped():
    with sleeper() as (process, owned):
        stranger = dataclasses.replace(owned, started="1" + owned.started)
        assert not stranger.alive()
        assert not stranger.stop()
        assert process.poll() is None
        assert owned.alive()
        assert owned.stop()
        process.wait(timeout=30)
        assert not owned.stop()


def test_a_step_of_the_clock_makes_no_stranger_of_it(monkeypatch):
    with sleeper() as (_, owned):
        created = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + 60)
        assert owned.alive()


def test_a_containers_process_is_left_to_its_stack():
    with sleeper(contained=True) as (process, owned):
        assert owned.alive()
        assert not owned.stop()
        assert process.poll() is None


def test_what_could_not_be_asked_is_not_alive():
    assert not Owned(server="fake", pid=0, started="", log="x").alive()
