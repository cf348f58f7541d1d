"""Every recorded answer of TensorFlow Serving, asked of the embedded server (or of the real one).

With one process, and with two; what was recorded over gRPC also by the other transport, grpc.aio.
Cases in not_yet.yaml must fail (a pass there is an error: take it off the list); cases in differences.yaml are deliberate
and are replaced by what the list says of them. Everything else must pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract import replay, serverproc

HERE = Path(__file__).resolve().parent
CASES: list[dict[str, Any]] = [json.loads(line) for line in (HERE / "transcripts.jsonl").read_text().splitlines()]
NOT_YET: dict[str, str] = yaml.safe_load((HERE / "not_yet.yaml").read_text()) or {}
DIFFERENCES: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "differences.yaml").read_text()) or {}

StartServer = Callable[[str], tuple[serverproc.Server, Any]]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def start(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Servers by name, each started when its first case comes and kept."""
    if request.param > 1 and serverproc.REAL:
        pytest.skip("--processes is ours; TENSORFLOW_MODEL_SERVER is set")
    more = [f"--processes={request.param}"] if request.param > 1 else []
    yield from _servers(tmp_path_factory, more)


@pytest.fixture(scope="module")
def start_aio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """The same with gRPC by its public interface."""
    if serverproc.REAL:
        pytest.skip("--grpc_transport is ours; TENSORFLOW_MODEL_SERVER is set")
    yield from _servers(tmp_path_factory, ["--grpc_transport=aio"])


def _servers(tmp_path_factory: pytest.TempPathFactory, more: list[str]) -> Iterator[StartServer]:
    """Gives what starts a server; the model folder is shared."""
    base = serverproc.unpack_models(tmp_path_factory.mktemp("models"))
    running: dict[str, tuple[serverproc.Server, Any]] = {}
    with ExitStack() as stack:

        def server(name: str) -> tuple[serverproc.Server, Any]:
            if name not in running:
                flags = serverproc.named_flags(name, base, tmp_path_factory.mktemp("config"))
                process = stack.enter_context(serverproc.running([*flags, *more], base, "matrix"))
                channel = process.channel()
                stack.callback(channel.close)
                running[name] = process, channel
            return running[name]

        yield server


def _parameters(*protocols: str, slow_servers: tuple[str, ...] = ()) -> Iterator[Any]:
    for case in CASES:
        if case["protocol"] not in protocols:
            continue
        marks = [pytest.mark.slow] if case["server"] in slow_servers else []
        if not serverproc.REAL and case["id"] in NOT_YET:
            marks += [pytest.mark.xfail(strict=True, reason=NOT_YET[case["id"]])]
        yield pytest.param(case, id=case["id"], marks=marks)


@pytest.mark.parametrize("case", list(_parameters("rest", "grpc")))
def test_answers_as_recorded(case: dict[str, Any], start: StartServer) -> None:
    _answers_as_recorded(case, start)


# a server each for one case, of a flag and of a start that the transport has no part in
@pytest.mark.parametrize("case", list(_parameters("grpc", slow_servers=("main-fresh", "tc"))))
def test_answers_as_recorded_by_grpc_aio(case: dict[str, Any], start_aio: StartServer) -> None:
    _answers_as_recorded(case, start_aio)


def _answers_as_recorded(case: dict[str, Any], start: StartServer) -> None:
    server, channel = start(case["server"])
    answer = replay.run(case, server.rest_port, channel, server.model_base)
    if case["request"].get("method") == "Predict" and not serverproc.REAL:
        plain = replay.as_content(case["request"], server.model_base)
        for _ in range(2 if plain else 0):  # the second time its head is known, where predict_fast takes it
            again = replay.run({**case, "request": plain}, server.rest_port, channel, server.model_base)
            assert replay.comparable(case, again) == replay.comparable(case, answer)
    wanted = case["response"]
    if not serverproc.REAL and case["id"] in DIFFERENCES:
        assert replay.comparable(case, answer) != replay.comparable(case, wanted), "no difference any more: take it off the list"
        wanted = DIFFERENCES[case["id"]]["answer"]
    assert replay.comparable(case, answer) == replay.comparable(case, wanted)


def test_the_lists_name_known_cases_with_reasons() -> None:
    known = {case["id"] for case in CASES}
    assert len(known) == len(CASES)
    assert set(NOT_YET) <= known
    assert set(DIFFERENCES) <= known
    assert not set(NOT_YET) & set(DIFFERENCES)
    assert all(isinstance(reason, str) and reason for reason in NOT_YET.values())
    assert all(difference["reason"] and difference["answer"] for difference in DIFFERENCES.values())
