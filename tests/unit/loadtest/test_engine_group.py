"""loadtest.engine_group: several engines send one schedule, and nothing is lost or doubled."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from faceoff import cores
from loadtest import measure, schedules
from loadtest.engine_group import EngineGroup
from loadtest.engine_process import Destination
from loadtest.truth import cases
from loadtest.truth.behaviours import Behaviour
from loadtest.truth.cases import Case
from loadtest.truth.server import Server, running

SPLIT = cores.split(generators=2)


def destination(server: Server, protocol: str) -> Destination:
    return Destination(
        protocol=protocol,
        host="127.0.0.1",
        port=server.http if protocol == "rest" else server.grpc,
        path="/truth.Server/Answer",
        content_type="text/plain",
        timeout_s=30.0,
        payloads=tuple(b"%d" % number for number in range(300)),
    )


@pytest.mark.parametrize("rate", [None, 1000.0])
@pytest.mark.parametrize("num", [1, 2, 3])
def test_shares_are_the_schedule(num: int, rate: float | None) -> None:
    whole = schedules.make(seed=1, scenario="server", window=0, num_requests=4000, num_payloads=9, rate=rate)
    parts = schedules.shares(whole, num)
    assert sorted(np.concatenate([part.order for part in parts]).tolist()) == sorted(whole.order.tolist())
    if rate is not None:
        assert whole.offsets_ns is not None
        moments = [part.offsets_ns for part in parts if part.offsets_ns is not None]
        assert sorted(np.concatenate(moments).tolist()) == whole.offsets_ns.tolist()
        for offsets in moments:  # still Poisson: the gaps' deviation is their mean
            gaps = np.diff(offsets)
            assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.15)
            assert gaps.mean() == pytest.approx(num * 1e6, rel=0.15)


def test_no_share_is_empty() -> None:
    few = schedules.make(seed=1, scenario="server", window=0, num_requests=3, num_payloads=9, rate=10.0)
    assert [len(part.order) for part in schedules.shares(few, 3)] == [1, 1, 1]
    with pytest.raises(ValueError, match="3 requests for 4 engines"):
        schedules.shares(few, 4)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_two_engines_send_every_request_once(protocol: str) -> None:
    with running(Behaviour(kind="fixed", service_ms=1.0), SPLIT) as server:
        with EngineGroup(destination(server, protocol), SPLIT, 2) as group:
            for window, rate in enumerate((None, 500.0)):
                schedule = schedules.make(seed=1, scenario="server", window=window, num_requests=300, num_payloads=300, rate=rate)
                results = group.window(schedule, connections=5, deadline_s=30)
                assert len(results) == 2 and all(len(result.columns["sent"]) > 0 for result in results)
                sent = np.concatenate([result.columns["payload"] for result in results])
                assert sorted(sent.tolist()) == sorted(schedule.order.tolist())
                # Answers are numbered through the group: each number is one answer to one payload.
                for result in results:
                    said = {number: (payload, body) for number, payload, body in result.answers}
                    for number, payload in zip(result.columns["answer"], result.columns["payload"], strict=True):
                        if number in said:
                            assert said[number] == (payload, b"ok %d" % payload)
                if schedule.offsets_ns is not None:  # together they are the one schedule, from one beginning
                    moments = np.sort(np.concatenate([result.columns["scheduled"] for result in results]))
                    assert np.diff(moments).tolist() == np.diff(schedule.offsets_ns).tolist()
        log = server.log()
    assert len(log.number) == 600


def test_a_measurement_with_two_engines(tmp_path: Path) -> None:
    case = Case(behaviour=Behaviour(kind="wrong", service_ms=1.0), rate=300.0, num_requests=200)
    with running(case.behaviour, SPLIT) as server:
        made = cases.plan(case, server, SPLIT, tmp_path, seed=3, repeats=0)
        made = dataclasses.replace(made, options=dataclasses.replace(made.options, engines=2, rest=0.0))
        [m] = measure.run(made, tmp_path)
    rows = m.rows
    assert (len(rows), m.total("num_requests"), m.total("num_errors"), m.total("num_wrong")) == (200, 200, 0, 4)
    assert (np.diff(rows.scheduled_ns) >= 0).all()
    assert all(flag.startswith(("engine 1: ", "engine 2: ")) for attempt in m.attempts for flag in attempt.flags)
