"""What deploy owns: one at a time, found again, stopped, and nothing in the way of the rest of it."""

import json
import threading

import pytest

from faceoff.errors import CorruptError, FaceoffError, UsageError
from faceoff.store import Store
from serving import containers, state, undeploy
from tests.unit.serving.sleeper import sleeper


@pytest.fixture
def store(tmp_path):
    return Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")


def deployed(store, owned):
    """As deploy leaves it."""
    state.write(store, [owned])
    store.endpoints.write_text("[]")
    (store.deploy_dir / "parity.json").write_text("{}")


def test_state_is_found_again_and_stopped_with_the_proof_of_what_it_was(store):
    with sleeper() as (process, owned):
        deployed(store, owned)
        assert state.read(store) == [owned]
        assert state.stop_all(store) == ["fake"]
        process.wait(timeout=30)
    assert not store.endpoints.exists()
    assert not (store.deploy_dir / "parity.json").exists()
    assert state.read(store) == []
    assert state.stop_all(store) == []


def test_two_deploys_at_once_are_refused_with_who_is_at_work(store):
    failed = []

    def second():
        try:
            with state.lock(store, "deploy"):
                pass
        except UsageError as error:
            failed.append(str(error))

    with state.lock(store, "undeploy"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(failed) == 1
    assert failed[0].startswith("undeploy (pid ")
    second()
    assert len(failed) == 1


OLD = '[{"server": "torchserve", "pid": 1, "create_time": 1.5, "log": "x"}]'


@pytest.mark.parametrize("text", ["", '[{"server": "torch', "null", "[1]", '{"a": 1}', OLD])
def test_a_state_that_does_not_tell_is_one_line_with_what_to_do(store, capsys, text):
    store.deploy_dir.mkdir(parents=True)
    path = store.deploy_dir / "state.json"
    path.write_text(text)
    with pytest.raises(CorruptError, match=r"state.json is no list of processes .* by hand, then delete the file"):
        state.read(store)
    store.endpoints.write_text("[]")
    assert undeploy.main(["--artifacts", str(store.artifacts)]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"].startswith(str(path))
    assert len(printed.err.splitlines()) == 1
    assert not store.endpoints.exists()
    assert path.exists()


def test_a_stack_that_cannot_be_taken_down_keeps_nothing_else_running_and_can_be_forgotten(store, capsys):
    with sleeper() as (process, owned):
        deployed(store, owned)
        containers.remember(store, containers.Running(target="k8s", servers=["torchserve"], down=[["false"]]))
        with pytest.raises(FaceoffError, match=r"could not take down .*stack.json.*make undeploy again.*undeploy --forget"):
            state.stop_all(store)
        process.wait(timeout=30)
    assert not store.endpoints.exists()
    assert state.read(store) == []
    assert undeploy.main(["--artifacts", str(store.artifacts)]) == 1
    assert (store.deploy_dir / "stack.json").exists()
    assert undeploy.main(["--artifacts", str(store.artifacts), "--forget"]) == 0
    assert "forgotten all the same" in capsys.readouterr().err
    assert not (store.deploy_dir / "stack.json").exists()
    assert undeploy.main(["--artifacts", str(store.artifacts)]) == 0


def test_every_problem_of_a_stop_is_told(store):
    store.deploy_dir.mkdir(parents=True)
    (store.deploy_dir / "state.json").write_text("")
    (store.deploy_dir / "stack.json").write_text("{")
    with pytest.raises(FaceoffError, match=r"state.json is no list of processes.*; .*stack.json does not say which containers"):
        state.stop_all(store)


def test_a_pod_and_the_forwarding_of_its_ports_are_one_server(store):
    with sleeper() as (_, owned):
        state.write(store, [owned])
        containers.remember(store, containers.Running(target="k8s", servers=["fake"], down=[["true"]]))
        assert state.stop_all(store) == ["fake"]
