"""loadtest.engine_process with a real engine; what the engine measures is tested in tests/integration."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from faceoff import cores
from loadtest import schedules
from loadtest.engine_process import Destination, EngineError, EngineProcess


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port on which nobody ever answers: connections are taken by the kernel and stay unread."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


def destination(port: int, *, timeout_s: float = 5.0) -> Destination:
    return Destination(
        protocol="rest",
        host="127.0.0.1",
        port=port,
        path="/",
        content_type="application/json",
        timeout_s=timeout_s,
        payloads=(b"one", b"two"),
    )


def window(num_requests: int, rate: float | None = None) -> schedules.Schedule:
    return schedules.make(seed=1, scenario="server", window=0, num_requests=num_requests, num_payloads=2, rate=rate)


def test_a_silent_server_is_timeouts_and_the_engine_goes_away(nobody: int) -> None:
    with EngineProcess(destination(nobody, timeout_s=0.2), cores.split()) as engine:
        pid = engine.pid
        assert os.sched_getaffinity(pid) == set(cores.split().generator)
        for rate in (None, 100.0):
            result = engine.window(window(4, rate), connections=4, deadline_s=5)
            assert result.columns["status"].tolist() == [-2] * 4
            assert result.columns["answer"].tolist() == [-1] * 4
            assert (result.columns["done"] - result.columns["scheduled"] >= 200_000_000).all()
            assert result.answers == []
            assert result.wall_ns > 0
            assert (result.loop_lag_p99_ns is None) == (rate is not None)
    assert not psutil.pid_exists(pid)


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with EngineProcess(destination(taken.getsockname()[1]), cores.split()) as engine:
            result = engine.window(window(6), connections=3, deadline_s=5)
    assert result.columns["status"].tolist() == [-1] * 6
    assert np.all(result.columns["done"] >= result.columns["sent"])


def test_a_killed_engine_is_a_clear_error(nobody: int) -> None:
    with (
        pytest.raises(EngineError, match="was killed by signal 9 in the middle of its work"),
        EngineProcess(destination(nobody, timeout_s=30.0), cores.split()) as engine,
    ):
        engine.prepare(window(2), connections=1, deadline_s=30)
        engine.go(None)
        os.kill(engine.pid, signal.SIGKILL)  # the window cannot have ended: nobody answers for 30 s
        engine.result()


def test_a_fault_in_the_engine_is_said(nobody: int) -> None:
    with EngineProcess(destination(nobody), cores.split()) as engine:
        bad = schedules.Schedule(order=np.zeros(0, dtype=np.int64), offsets_ns=np.zeros(0, dtype=np.int64))
        with pytest.raises(EngineError, match="the load engine failed: ValueError: a window of no requests"):
            engine.window(bad, connections=1, deadline_s=1)


def test_a_stopped_engine_does_not_hang_the_stage(nobody: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.engine_process._MARGIN_S", 0.0)
    with (
        pytest.raises(EngineError, match="did not answer in time"),
        EngineProcess(destination(nobody, timeout_s=0.1), cores.split()) as engine,
    ):
        os.kill(engine.pid, signal.SIGSTOP)
        engine.window(window(1), connections=1, deadline_s=0.3)
