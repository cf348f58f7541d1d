"""The load suite whole: real Locust, real engine, small servers of known behaviour in processes of their own.

Whether a measurement is VALID depends on how quiet the machine is, so it is asserted only where it must not be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from faceoff import cores, processes
from faceoff.presets import LoadProfile
from faceoff.store import Store
from loadtest import measure, plan, summary
from loadtest.measure import Measurement
from loadtest.options import Options
from tests.fakes import model_servers

SMALL = LoadProfile(
    name="small",
    windows=2,
    requests_per_window=100,
    warmup_requests=20,
    max_window_repeats=0,
    closed_connections=3,
    open_connections=8,
    rate_fraction=0.4,
    slo_ms=100.0,
    timeout_s=5.0,
)
MEASUREMENT_KEYS = {
    *(
        "id",
        "samples",
        "model",
        "server",
        "server_settings_sha256",
        "artifact_format",
        "protocol",
        "encoding",
        "scenario",
        "load",
    ),
    *("num_rows_per_request", "duration_s", "seed", "slo_ms", "repeat", "valid", "invalid_reasons", "num_requests", "num_errors"),
    *("num_wrong", "throughput_rps", "latency_ms", "ci95_ms", "server_ms", "client"),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")


def run_small(store: Store, behaviour: str, **choices: Any) -> dict[str, Measurement]:
    """Measure a fake in this process (the engine is a real one) with the SMALL profile; by protocol-scenario."""
    with model_servers.running(behaviour) as servers:
        model_servers.deploy(store, servers)
        options = Options(run="small", artifacts=store.artifacts, results=store.results, rest=0.0, **choices)
        planned = dataclasses.replace(plan.make(options), profile=SMALL, connections=SMALL.closed_connections)
        found = {f"{m.target.protocol}-{m.scenario}": m for m in measure.run(planned, store.results)}
        summary.write(planned, store.results, found.values())
    return found


def stage(store: Store, *args: str) -> subprocess.Popen[str]:
    """`python -m loadtest.run`, started."""
    roots = [f"--artifacts={store.artifacts}", f"--results={store.results}"]
    temporary = store.artifacts.parent / "tmp"  # what a killed stage cannot clean up stays in the test's own folder
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "loadtest.run", "--rest=0", *roots, *args],  # nothing here depends on a machine at rest
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=processes.environment({"TMPDIR": str(temporary)}),
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON line (which must be the last and the only one) and stderr."""
    stdout, stderr = process.communicate(timeout=300)
    assert len(stdout.splitlines()) == 1, stdout + stderr
    return process.returncode, json.loads(stdout), stderr


def test_the_stage_through_locust(store: Store) -> None:
    with model_servers.running("right") as servers:
        model_servers.deploy(store, servers)
        code, line, stderr = finish(stage(store, "--run=demo", "--seed=5"))
        assert code in (0, 3), stderr
        assert line["status"] == {0: "ok", 3: "invalid"}[code]
    found = json.loads((store.results / "demo" / "summary.json").read_text())
    assert (found["run"], found["model"], found["profile"], found["comparisons"]) == ("demo", "cnn", "quick", [])
    assert found["environment"]["machine"]["cpu"]
    assert [m["id"] for m in found["measurements"]] == [
        f"tfserving-embedded-{way}-{scenario}-1" for way in ("rest-json", "grpc-tensor") for scenario in ("closed", "server")
    ]
    for m in found["measurements"]:
        assert set(m) >= MEASUREMENT_KEYS
        assert (m["num_requests"], m["num_errors"], m["num_wrong"], m["seed"]) == (1500, 0, 0, 5)
        assert m["valid"] == (not m["invalid_reasons"])
        assert 0 < m["latency_ms"]["p50"] <= m["latency_ms"]["p99"] <= m["latency_ms"]["max"]
        assert m["ci95_ms"]["p99"][0] <= m["latency_ms"]["p99"] <= m["ci95_ms"]["p99"][1]
        assert m["client"]["cpu_us_per_request"] > 0
        table = pq.read_table(store.results / "demo" / m["samples"]).to_pydict()
        assert len(table["status"]) == 1500
        assert set(table["status"]) == {200 if m["protocol"] == "rest" else 0}
        assert set(table["correct"]) == {True}
        assert set(table["payload"]) == set(range(16))
        assert [table["window"].count(window) for window in range(3)] == [500] * 3
        assert all(s <= t <= d for s, t, d in zip(table["scheduled_ns"], table["sent_ns"], table["done_ns"], strict=True))
    closed, server = found["measurements"][:2]
    assert closed["load"] == {"kind": "connections", "value": 4}
    assert server["load"]["kind"] == "rate"
    assert server["load"]["value"] == pytest.approx(0.4 * closed["throughput_rps"])
    assert {path.name for path in (store.results / "demo" / "records").iterdir()} == {
        "training.json",
        "export.json",
        "endpoints.json",
    }
    assert [path.name for path in store.results.iterdir()] == ["demo"]
    assert "tfserving-embedded-rest-json-closed-1" in stderr
    assert "Aggregated" not in stderr  # Locust's own, rounded table


def test_locust_by_hand_with_its_own_reports(store: Store, tmp_path: Path) -> None:
    with model_servers.running("wrong") as servers:
        model_servers.deploy(store, servers)
        done = subprocess.run(
            [
                *(str(Path(sys.executable).parent / "locust"), "-f", "loadtest/locustfile.py", "--headless", "-u", "1"),
                *("--csv", str(tmp_path / "csv"), "--html", str(tmp_path / "report.html"), "--scenarios", "closed"),
                *("--protocols", "rest", "--artifacts", str(store.artifacts), "--results", str(store.results), "--run", "hand"),
                *("--rest", "0"),
            ],
            cwd=processes.ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 3, done.stderr  # wrong answers are never VALID
    [m] = json.loads((store.results / "hand" / "summary.json").read_text())["measurements"]
    assert not m["valid"]
    assert m["num_errors"] == 0
    assert m["num_wrong"] == 1500 / model_servers.EVERY
    assert any("answers were wrong (first: golden row" in reason for reason in m["invalid_reasons"])
    lines = (tmp_path / "csv_stats.csv").read_text().splitlines()
    assert lines[1].split(",")[:4] == ["rest", "tfserving-embedded-rest-json-closed-1", "1500", "150"]
    assert (tmp_path / "report.html").stat().st_size > 0


def test_an_existing_run_is_replaced_and_said_aloud(store: Store) -> None:
    old = store.results / "again" / "samples" / "old.parquet"
    old.parent.mkdir(parents=True)
    old.touch()
    with model_servers.running("right") as servers:
        model_servers.deploy(store, servers)
        args = ("--run=again", "--protocols=rest", "--scenarios=server", "--rate=2000")
        code, _, stderr = finish(stage(store, *args))
    assert code in (0, 3), stderr
    assert "again exists: it is replaced" in stderr
    assert not old.exists()
    [m] = json.loads((store.results / "again" / "summary.json").read_text())["measurements"]
    assert (m["scenario"], m["load"]) == ("server", {"kind": "rate", "value": 2000.0})


@pytest.mark.parametrize(
    ("behaviour", "rest_status", "grpc_status"),
    [("error", 503, 14), ("drop", -1, 14)],
)
def test_failures_are_counted_and_never_valid(store: Store, behaviour: str, rest_status: int, grpc_status: int) -> None:
    for name, m in run_small(store, behaviour).items():
        bad = rest_status if name.startswith("rest") else grpc_status
        good = 200 if name.startswith("rest") else 0
        statuses = m.rows.status.tolist()
        assert len(statuses) == 200
        assert statuses.count(bad) == m.rows.num_errors == 200 / model_servers.EVERY, name
        assert statuses.count(good) == 200 - m.rows.num_errors
        assert m.rows.num_wrong == 0
        assert all((correct == -1) == (status == bad) for correct, status in zip(m.rows.correct, statuses, strict=True))
        assert any("requests failed" in reason for reason in m.reasons)


@pytest.mark.parametrize("behaviour", ["wrong", "broken"])
def test_wrong_answers_are_counted_apart_and_never_valid(store: Store, behaviour: str) -> None:
    for name, m in run_small(store, behaviour).items():
        assert (m.rows.num_errors, m.rows.num_wrong) == (0, 200 / model_servers.EVERY), name
        assert any("answers were wrong" in reason for reason in m.reasons)


def test_an_open_loop_sees_a_stall_that_a_closed_one_hides(store: Store) -> None:
    found = run_small(store, "stall", rate=100.0, protocols="rest")
    stall_ms = 1000 * model_servers.STALL_S
    # Every hundredth request stalls the server: in a closed loop those in flight see it, in an open one all that
    # were to be sent meanwhile do, from their scheduled moment.
    closed, server = (m.rows.latency_ms for m in found.values())
    assert 2 <= (closed > 0.9 * stall_ms).sum() <= 2 * SMALL.closed_connections
    assert (server > 0.1 * stall_ms).sum() > 2 * SMALL.closed_connections
    assert server.max() >= 0.9 * stall_ms


def test_another_program_on_the_servers_cores_makes_it_invalid(store: Store) -> None:
    busy = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
    with contextlib.ExitStack() as programs:
        for core in cores.split().servers:
            program = programs.enter_context(subprocess.Popen([sys.executable, "-c", busy, str(core)]))
            programs.callback(program.kill)
        found = run_small(store, "right", rate=100.0, protocols="rest", scenarios="server")["rest-server"]
    assert not found.rows.num_wrong
    assert any("other programs used" in reason for reason in found.reasons), found.reasons
    assert all(attempt.use.others_percent > 50 for attempt in found.attempts)


def test_a_server_that_is_gone_ends_the_measurement(store: Store) -> None:
    with model_servers.running("right") as servers:
        model_servers.deploy(store, servers)
    options = Options(run="gone", artifacts=store.artifacts, results=store.results, rest=0.0)
    planned = dataclasses.replace(plan.make(options), profile=SMALL)
    found = list(measure.run(planned, store.results))
    assert len(found) == 4
    written = summary.write(planned, store.results, found)["measurements"]
    for m in written:
        assert not m["valid"]
        assert m["num_requests"] == 0
        assert set(m["latency_ms"].values()) == {None}
        assert m["invalid_reasons"][0] == "no request of the warm-up succeeded; nothing was measured"


def engine_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The engine that a running stage has started; waits until it is there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "loadtest.engine" in child.cmdline():
                    return child
        time.sleep(0.05)
    raise AssertionError("no engine was started")


@pytest.mark.parametrize("ending", ["kill the engine", "interrupt the stage", "kill the stage"])
def test_nothing_is_left_of_a_run_that_ends_early(store: Store, ending: str) -> None:
    with model_servers.running("right") as servers:
        model_servers.deploy(store, servers)
        process = stage(store, "--run=x", "--protocols=rest", "--scenarios=server", "--rate=20")
        try:
            engine = engine_of(process)
            family = psutil.Process(process.pid).children(recursive=True)
            if ending == "kill the engine":
                engine.kill()
                code, line, _ = finish(process)
                assert (code, line["status"]) == (1, "fault")
                assert "the load engine" in line["error"] and "killed by signal 9" in line["error"]
            elif ending == "interrupt the stage":
                process.send_signal(signal.SIGINT)
                code, line, _ = finish(process)
                assert (code, line["status"]) == (1, "fault")
            else:
                process.kill()
                process.communicate()
            _, alive = psutil.wait_procs(family, timeout=30)
            assert not alive
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
    if ending != "kill the stage":  # nobody can clean up after that one
        assert not list(store.results.iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--scenarios=online",), "unknown scenario 'online'"),
        (("--protocols=soap",), "unknown protocol 'soap'"),
        (("--profile=huge",), "unknown profile 'huge'"),
        (("--servers=apache",), "unknown deployed server 'apache'"),
        (("--model=nope",), "unknown model 'nope'"),
        (("--rate=-1",), "rate -1"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(store: Store, args: tuple[str, ...], words: str) -> None:
    model_servers.deploy(store, model_servers.Servers(rest_url="http://127.0.0.1:9", grpc_target="127.0.0.1:10", pid=0))
    code, line, stderr = finish(stage(store, *args))
    assert (code, line["status"]) == (2, "usage")
    assert words in line["error"]
    assert len(stderr.strip().splitlines()) == 1
    assert not store.results.exists()


def test_before_deploy(store: Store) -> None:
    code, line, _ = finish(stage(store))
    assert (code, line["status"]) == (2, "usage")
    assert "make deploy" in line["error"]


def test_help_is_quick_and_imports_little() -> None:
    code = "import sys, loadtest.run as r; r.main(['--help'])"
    check = f"import atexit, sys; atexit.register(lambda: print(sorted(sys.modules))); {code}"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=processes.environment(), check=True)
    loaded = done.stdout.splitlines()[-1]
    assert "usage: python -m loadtest.run" in done.stdout
    assert not any(f"'{name}'" in loaded for name in ("numpy", "locust", "gevent", "pyarrow", "torch", "tensorflow", "grpc"))


def test_the_engine_loads_no_framework() -> None:
    names = ("torch", "tensorflow", "numpy", "locust", "gevent", "serving", "pyarrow")
    check = f"import sys, loadtest.engine, loadtest.grpc_connection; assert not set({names}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], env=processes.environment(), check=True, cwd=os.sep)
