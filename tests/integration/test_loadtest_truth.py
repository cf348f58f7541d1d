"""The instrument against servers of known truth, and what it does when it cannot be believed.

Whether a measurement is VALID depends on how quiet the machine is, so it is asserted only where it must not be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceoff import cores, processes
from faceoff.errors import FaceoffError, StageError
from faceoff.store import Store
from loadtest import calibration, measure, outcome, plan, summary
from loadtest.calibration import Calibration, Capacity
from loadtest.engine_process import EngineError
from loadtest.options import Options
from loadtest.truth import cases, stock
from loadtest.truth.behaviours import STRIKE_EVERY, Behaviour
from loadtest.truth.cases import Case
from loadtest.truth.server import Server, running
from tests.conftest import Run

SPLIT = cores.split()


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """A request that a server of known truth answers with `ok 7`, and that answer beside it."""
    (tmp_path / "body").write_text("7")
    (tmp_path / "expect").write_text("ok 7")
    return tmp_path / "body"


def planned(folder: Path, server: Server, body: Path, *, requests: int = 100, windows: int = 2, **choices: Any) -> plan.Plan:
    """A small load test of a server of known truth, as a user's own endpoint."""
    url = f"http://127.0.0.1:{server.http}/x"
    options = Options(
        run="x",
        artifacts=folder,
        results=folder,
        url=url,
        body=str(body),
        expect=str(body.with_name("expect")),
        rest=0.0,
        **choices,
    )
    made = plan.make(options)
    small = dataclasses.replace(
        made.profile, windows=windows, requests_per_window=requests, warmup_requests=20, max_window_repeats=0, timeout_s=5.0
    )
    return dataclasses.replace(made, profile=small)


@pytest.mark.parametrize("kind", ["drops", "wrong", "closes"])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_every_failure_is_counted_exactly(tmp_path: Path, kind: str, protocol: str) -> None:
    case = Case(behaviour=Behaviour(kind=kind, service_ms=2.0), protocol=protocol, rate=400.0, num_requests=400)
    with running(case.behaviour, SPLIT) as server:
        [m] = measure.run(cases.plan(case, server, SPLIT, tmp_path, seed=3, repeats=0), tmp_path)
        true = cases.truth(case, m.rows, server.log())
    bad = m.total("num_wrong") if kind == "wrong" else m.total("num_errors")
    assert bad == true.num_struck == 400 / STRIKE_EVERY
    assert m.total("num_wrong") + m.total("num_errors") == bad
    assert any("answers were wrong" in reason or "requests failed" in reason for reason in m.reasons)


@pytest.mark.parametrize("kind", ["fixed", "stalls", "queue"])
def test_no_answer_is_seen_before_the_truth_says_it_was_there(tmp_path: Path, kind: str) -> None:
    """The error against the truth is what the generator adds, so it has a sign, however busy the machine is."""
    behaviour = Behaviour(kind=kind, service_ms=4.0, stall_ms=100.0, period_ms=400.0)
    case = Case(behaviour=behaviour, rate=150.0, num_requests=300)
    with running(behaviour, SPLIT) as server:
        [m] = measure.run(cases.plan(case, server, SPLIT, tmp_path, seed=3, repeats=0), tmp_path)
        true = cases.truth(case, m.rows, server.log())
    assert m.figures is not None and true.num_ok == 300
    # Of the mean: requests sent late are served in another order, which moves single ones either way.
    measured_ms, as_sent_ms = m.figures.latency_ms["mean"], true.as_sent_ms["p50"]
    assert measured_ms is not None and measured_ms >= true.mean_ms >= 4.0
    assert as_sent_ms is not None and m.figures.latency_ms["p50"] >= as_sent_ms >= 4.0  # type: ignore[operator]


def test_the_self_test_as_a_command(run: Callable[..., Run]) -> None:
    done = run("loadtest.selftest", "--cases", "wrong", "--no-stock", "--repeats", "0")
    assert done.code in (0, 3), done.stderr[-2000:]
    assert [(row["server"], row["percentile"]) for row in done.result["rows"]] == [("wrong", p) for p in ("p50", "p99", "p99_9")]
    assert {"server", "scenario", "percentile", "truth_ms", "faceoff_ms", "locust_ms"} <= set(done.result["rows"][0])
    for row in done.result["rows"]:
        limit_ms = max(0.1, 0.02 * row["truth_ms"])
        assert row["met"] == (abs(row["faceoff_ms"] - row["truth_ms"]) <= limit_ms)
    [counts] = done.result["counts"]
    assert counts["bad_truth"] == counts["bad_faceoff"] == 20
    assert "the instrument against the truth" in done.stderr
    assert run("loadtest.selftest", "--cases", "nope").code == 2


@pytest.mark.slow
def test_the_whole_self_test_ends_within_its_time(run: Callable[..., Run]) -> None:
    done = run("loadtest.selftest", timeout_s=400)
    assert done.code in (0, 3), done.stderr[-2000:]
    assert {row["server"] for row in done.result["rows"]} >= {"fixed", "stalls", "queue", "drops", "wrong", "closes"}
    assert done.result["max_qps"]["truth"] > 0


def test_stock_locust_reports(tmp_path: Path) -> None:
    with running(Behaviour(kind="fixed", service_ms=2.0), SPLIT) as server:
        found = stock.measure(server.http, SPLIT, users=3, rate=60.0, duration_s=2.0)
        served = len(server.log().number)
    assert served - 3 <= found.num_requests <= served  # all but what its users still waited for; Locust's --csv lacks more
    assert found.num_requests > 0 and found.num_failures == 0
    assert set(found.latency_ms) == {"p50", "p99", "p99_9"}
    assert found.cpu_us is not None and found.cpu_us > 0


def test_a_calibration_is_measured_and_quoted(tmp_path: Path, body: Path, run: Callable[..., Run]) -> None:
    store = Store(artifacts=tmp_path / "a", results=tmp_path / "r")
    done = run("loadtest.calibrate", "--requests", "200", f"--artifacts={store.artifacts}", f"--results={store.results}")
    assert done.code == 0, done.stderr[-2000:]
    assert set(done.result["capacity_rps"]) == {f"{p}-{size}" for p in ("rest", "grpc") for size in (64, 3072, 65536, 1048576)}
    found = calibration.read(store)
    assert found is not None and found.elsewhere is None
    with running(Behaviour(kind="fixed", service_ms=1.0), SPLIT) as server:
        made = planned(tmp_path, server, body, scenarios="server", rate=200.0)
        assert made.calibration is None
        measured = list(measure.run(made, tmp_path / "one"))
        [m] = summary.write(made, tmp_path / "one", measured)["measurements"]
        assert m["null_server"]["capacity_rps"] is None
        assert "run make loadtest-calibrate" in m["null_server"]["note"]
        assert not any("capacity" in reason for reason in m["invalid_reasons"])
        slow = Capacity(protocol="rest", body_bytes=64, connections=8, rps=300.0, cpu_us=1.0)
        bounded = dataclasses.replace(made, calibration=dataclasses.replace(found, capacities=(slow,)))
        measured = list(measure.run(bounded, tmp_path / "two"))
        [m] = summary.write(bounded, tmp_path / "two", measured)["measurements"]
    assert isinstance(bounded.calibration, Calibration)
    assert m["null_server"] == {"capacity_rps": 300.0, "note": None}
    assert "capacity: 200 requests/s are more than half of the 300 that the generator can send" in str(m["invalid_reasons"])


def test_a_generator_that_is_held_up_is_invalid(tmp_path: Path, body: Path) -> None:
    spin = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"
    core = str(SPLIT.generator[0])
    busy = [subprocess.Popen([sys.executable, "-c", spin, core], stdout=subprocess.PIPE) for _ in range(3)]
    try:
        for process in busy:
            assert process.stdout is not None
            process.stdout.readline()
        with running(Behaviour(kind="fixed", service_ms=1.0), SPLIT) as server:
            measured = list(measure.run(planned(tmp_path, server, body, rate=200.0), tmp_path))
    finally:
        for process in busy:
            process.kill()
            process.communicate()
    assert [m.scenario for m in measured] == ["closed", "server"]
    for m in measured:
        assert any("stayed flagged" in reason for reason in m.reasons), m.reasons


def test_a_generator_that_is_stopped_is_invalid_and_a_search_then_finds_nothing(tmp_path: Path, body: Path) -> None:
    over = threading.Event()

    def hold_up() -> None:
        while not over.wait(0.2):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):  # it may end at any moment
                    if "loadtest.engine" in child.cmdline():
                        child.suspend()
                        time.sleep(0.1)
                        child.resume()

    holder = threading.Thread(target=hold_up)
    with running(Behaviour(kind="fixed", service_ms=1.0), SPLIT) as server:
        made = planned(tmp_path, server, body, scenarios="server,max_qps", rate=300.0, requests=150)
        made = dataclasses.replace(made, search_s=2.0)
        holder.start()
        try:
            measured = list(measure.run(made, tmp_path))
        finally:
            over.set()
            holder.join()
    one, search = measured
    assert any("late at p99" in reason for reason in one.reasons), one.reasons
    assert search.search is not None and search.search["max_qps"] is None
    assert search.reasons


def test_an_engine_killed_in_mid_window_keeps_its_rows(tmp_path: Path, body: Path) -> None:
    with running(Behaviour(kind="fixed", service_ms=1.0), SPLIT) as server:
        made = planned(tmp_path, server, body, scenarios="server", rate=100.0)

        def kill(engine: psutil.Process, after: int) -> None:
            while len(server.log().number) < after:  # by count: the driver may wait seconds for the machine to come to rest
                time.sleep(0.01)
            engine.kill()

        def after_the_first(m: object, attempt: object, rows: object) -> None:
            [engine] = [child for child in psutil.Process().children() if "loadtest.engine" in child.cmdline()]
            threading.Thread(target=kill, args=(engine, len(server.log().number) + 30), daemon=True).start()

        with pytest.raises(EngineError, match="killed by signal 9"):
            list(measure.run(made, tmp_path, after_the_first))
    [path] = (tmp_path / "samples").glob("*.parquet")
    rows = pq.read_table(path).to_pydict()
    assert rows["window"].count(0) == 100
    assert 0 < rows["window"].count(1) < 100
    rescued = [at for at, window in enumerate(rows["window"]) if window == 1]
    assert all(rows["correct"][at] is None and rows["done_ns"][at] >= rows["sent_ns"][at] for at in rescued)


def test_a_killed_engine_ends_the_command_and_its_rows_are_kept(tmp_path: Path, body: Path) -> None:
    with running(Behaviour(kind="fixed", service_ms=1.0), SPLIT) as server:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "loadtest.run", f"--url=http://127.0.0.1:{server.http}/", f"--body={body}"),
                *("--rest=0", "--scenario=server", "--rate=50", "--duration=20", f"--out={tmp_path / 'r' / 'x'}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=processes.environment(),
        )
        deadline = time.monotonic() + 120
        while len(server.log().number) < 4150:  # the warm-ups are over: this is the first window
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        [engine] = [
            child for child in psutil.Process(process.pid).children(recursive=True) if "loadtest.engine" in child.cmdline()
        ]
        engine.kill()
        stdout, _ = process.communicate(timeout=120)
    line = json.loads(stdout)
    assert (process.returncode, line["status"]) == (1, "fault")
    assert "killed by signal 9" in line["error"] and "the rows so far are kept in" in line["error"]
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["x.partial"]
    [samples] = (tmp_path / "r" / "x.partial" / "samples").glob("*.parquet")
    assert pq.read_metadata(samples).num_rows >= 30


def test_a_fault_without_rows_leaves_nothing_and_an_older_partial_goes(tmp_path: Path) -> None:
    with pytest.raises(FaceoffError, match=r"^no$"), outcome.replaced(tmp_path / "x"):
        raise FaceoffError("no")
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        with pytest.raises(StageError, match="kept in") as error, outcome.replaced(tmp_path / "x") as folder:
            (folder / "samples").mkdir()
            pq.write_table(pa.table({"a": [1]}), folder / "samples" / "a.parquet")
            raise StageError("no", exit_code=1)
        assert error.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.partial"]


def test_every_scenario(tmp_path: Path, body: Path) -> None:
    (tmp_path / "trace").write_text("".join(f"{at * 0.01}\n" for at in range(50)))
    names = "closed,server,single_stream,multi_stream,offline,constant,step,ramp,burst,trace,soak,sweep"
    with running(Behaviour(kind="fixed", service_ms=1.0), SPLIT) as server:
        made = planned(tmp_path, server, body, scenarios=names, rate=200.0, duration=1.0, trace=str(tmp_path / "trace"))
        made = dataclasses.replace(made, sweep=(100.0, 200.0))
        measured = list(measure.run(made, tmp_path))
        found = summary.write(made, tmp_path, measured)["measurements"]
    assert len({m["id"] for m in found}) == len(found) == len(names.split(",")) + 1
    by_name = {m["scenario"]: m for m in found}
    for m in found:
        assert (tmp_path / m["samples"]).with_suffix(".hgrm").read_text().endswith(f"= {m['num_requests']:>12}]\n")
        assert (m["num_errors"], m["num_wrong"]) == (0, 0), m["id"]
        assert m["goodput_rps"] is not None and m["goodput_rps"] <= m["throughput_rps"] * 1.0001
        table = pq.read_table(tmp_path / m["samples"])
        assert table.num_rows == m["num_requests"] > 0
    assert {name: by_name[name]["num_requests"] for name in ("server", "constant", "step", "ramp", "burst", "soak", "trace")} == {
        **dict.fromkeys(("server", "constant", "step", "ramp", "burst", "soak"), 200),
        "trace": 50,
    }
    assert (by_name["single_stream"]["load"], by_name["multi_stream"]["connections"]) == (
        {"kind": "connections", "value": 1.0},
        1,
    )
    assert len(by_name["step"]["steps"]) == 5
    offline = pq.read_table(tmp_path / by_name["offline"]["samples"])
    assert len(set(offline["scheduled_ns"].to_pylist())) == 1
    assert not any("connections:" in reason for reason in by_name["offline"]["invalid_reasons"])
    gaps = np.diff(np.sort(pq.read_table(tmp_path / by_name["trace"]["samples"])["scheduled_ns"].to_numpy()))
    assert set(gaps.tolist()) == {10_000_000}


def test_a_users_own_grpc_endpoint_as_a_command(tmp_path: Path, body: Path, run: Callable[..., Run]) -> None:
    with running(Behaviour(kind="wrong", service_ms=1.0), SPLIT) as server:
        done = run(
            *("loadtest.run", "--grpc", f"127.0.0.1:{server.grpc}", "--method", "/a.B/C", "--body", str(body)),
            *("--expect", str(body.with_name("expect")), "--scenario", "server", "--rate", "400", "--duration", "2"),
            *("--rest=0", "--seed", "4", "--out", str(tmp_path / "out" / "mine")),
        )
    assert (done.code, done.result["status"]) == (3, "invalid"), done.stderr[-2000:]
    found = json.loads((tmp_path / "out" / "mine" / "summary.json").read_text())
    [m] = found["measurements"]
    assert (found["run"], found["model"], m["server"], m["protocol"], m["num_requests"]) == (
        "mine",
        "custom",
        "custom",
        "grpc",
        800,
    )
    assert m["num_wrong"] == 16 and m["seed"] == 4


def test_without_keep_alive_every_answer_is_right_and_it_is_recorded(tmp_path: Path, body: Path) -> None:
    with running(Behaviour(kind="fixed", service_ms=1.0), SPLIT) as server:
        made = planned(tmp_path, server, body, scenarios="closed,server", rate=100.0, windows=1, keep_alive=0)
        found = summary.write(made, tmp_path, measure.run(made, tmp_path))["measurements"]
    for m in found:
        assert (m["keep_alive"], m["num_requests"], m["num_errors"], m["num_wrong"]) == (False, 100, 0, 0), m["id"]
        assert not any("connections:" in reason for reason in m["invalid_reasons"])


def test_rows_of_several_and_another_encoding(tmp_path: Path) -> None:
    from tests.fakes import model_servers

    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    with model_servers.running("right") as servers:
        model_servers.deploy(store, servers)
        options = Options(
            run="x",
            artifacts=store.artifacts,
            results=store.results,
            rest=0.0,
            scenarios="closed,multi_stream",
            encodings="json,tensor",
        )
        made = plan.make(options)
        small = dataclasses.replace(made.profile, windows=1, requests_per_window=50, warmup_requests=20, max_window_repeats=0)
        found = list(measure.run(dataclasses.replace(made, profile=small), tmp_path))
    assert [m.id for m in found] == [
        f"tfserving-embedded-{way}-1"
        for protocol in ("rest-json", "grpc-tensor")
        for way in (f"{protocol}-closed", f"{protocol}-8rows-multi_stream")
    ]
    for m in found:
        assert m.total("num_wrong") == m.total("num_errors") == 0
        assert set(m.rows.num_rows.tolist()) == {m.target.num_rows}
        assert m.encode_us and m.decode_us and m.judging_us


@pytest.mark.slow
def test_the_bench_prints_ratios(run: Callable[..., Run]) -> None:
    done = run("loadtest.bench", "--seconds", "1")
    assert done.code == 0, done.stderr[-2000:]
    assert {row["generator"].split()[0] for row in done.result["rows"]} >= {"faceoff", "stock"}
    assert all(row["ratio"] > 0 for row in done.result["rows"])
