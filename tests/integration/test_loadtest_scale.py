"""What the load suite costs as a run grows, and an independent load generator beside it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from faceoff import cores, processes
from loadtest import crosscheck
from loadtest import rows as rows_module
from loadtest.truth.behaviours import Behaviour
from loadtest.truth.server import running
from tests.conftest import Run

SPLIT = cores.split()
# A measurement that held its rows would need 88 bytes for each; its figures are computed from 18, sorted and copied.
MOST_DRIVER_BYTES, MOST_ENGINE_BYTES = 64, 8
_MEASURE = """
import dataclasses, json, re, resource, sys
from pathlib import Path
from loadtest import measure, plan
from loadtest.options import Options

folder, port, windows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
options = Options(run="x", artifacts=folder, results=folder, url=f"http://127.0.0.1:{port}/", body=str(folder / "body"),
                  scenarios="closed", rest=0.0)
made = plan.make(options)
profile = dataclasses.replace(made.profile, windows=windows, requests_per_window=5000, warmup_requests=100, max_window_repeats=0)
peak = 0

def engine_peak(measurement, attempt, rows):
    global peak
    import psutil
    [engine] = [child for child in psutil.Process().children() if "loadtest.engine" in child.cmdline()]
    peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path(f"/proc/{engine.pid}/status").read_text()).group(1))

[m] = measure.run(dataclasses.replace(made, profile=profile), folder, engine_peak)
own = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": m.total("num_requests"), "driver": own, "engine": peak}))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"7")
    found = []
    with running(Behaviour(kind="null"), SPLIT) as server:
        for windows in (20, 40):
            done = subprocess.run(
                [sys.executable, "-c", _MEASURE, str(tmp_path), str(server.http), str(windows)],
                capture_output=True,
                text=True,
                env=processes.environment(),
                timeout=300,
                check=True,
            )
            found.append(json.loads(done.stdout.splitlines()[-1]))
    short, long = found
    assert (short["rows"], long["rows"]) == (100_000, 200_000)
    grown = {name: (long[name] - short[name]) / (long["rows"] - short["rows"]) for name in ("driver", "engine")}
    assert grown["driver"] < MOST_DRIVER_BYTES, grown
    assert grown["engine"] < MOST_ENGINE_BYTES, grown


def test_the_cross_check_says_what_it_needs(run: Callable[..., Run]) -> None:
    if crosscheck.installed():
        pytest.skip("LoadGen is installed: the slow test runs it")
    done = run("loadtest.crosscheck")
    assert (done.code, done.result["status"]) == (2, "usage")
    assert "pip install mlcommons-loadgen" in done.result["error"]


@pytest.mark.slow
@pytest.mark.skipif(not crosscheck.installed(), reason=f"MLCommons LoadGen is not installed ({crosscheck.INSTALL})")
def test_loadgen_measures_the_same_servers(run: Callable[..., Run]) -> None:
    # Whether the two agree depends on how quiet the machine is: `python -m loadtest.crosscheck` judges that.
    done = run("loadtest.crosscheck", "--requests", "600", timeout_s=300)
    assert done.code in (0, 3), done.stderr[-2000:]
    rows = done.result["rows"]
    assert [(row["server"], row["scenario"], row["percentile"]) for row in rows] == [
        (server, scenario, percentile)
        for server, scenario in (("fixed", "single_stream"), ("fixed", "server"), ("stalls", "server"))
        for percentile in ("p50", "p99")
    ]
    assert all(row["faceoff_ms"] >= 10 and row["loadgen_ms"] >= 10 for row in rows)  # the servers' own time
    assert all(row["difference"] == pytest.approx(row["faceoff_ms"] / row["loadgen_ms"] - 1) for row in rows)


def locusts(folder: Path, *arguments: str) -> list[subprocess.Popen[str]]:
    """A master and two workers, started; the master's arguments besides its own."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--skip-log-setup"]
    master = ["--master", "--headless", "--only-summary", "--expect-workers=2", "--master-bind-host=127.0.0.1"]
    roots = [f"--artifacts={folder}", f"--results={folder / 'r'}"]
    every = [
        [*command, *master, f"--master-bind-port={port}", *roots, *arguments],
        *[[*command, "--worker", "--master-host=127.0.0.1", f"--master-port={port}"] for _ in range(2)],
    ]
    return [
        subprocess.Popen(
            one, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=processes.environment(), cwd=processes.ROOT
        )
        for one in every
    ]


def stop(started: list[subprocess.Popen[str]]) -> None:
    for process in started:
        if process.poll() is None:
            processes.stop_tree(process.pid)
        process.communicate()


def test_a_master_and_two_workers_count_every_row(tmp_path: Path) -> None:
    (tmp_path / "body").write_text("7")
    (tmp_path / "expect").write_text("ok 7")
    with running(Behaviour(kind="wrong", service_ms=1.0), SPLIT) as server:
        url = [f"--url=http://127.0.0.1:{server.http}/", f"--body={tmp_path / 'body'}", f"--expect={tmp_path / 'expect'}"]
        started = locusts(tmp_path, *url, "--scenarios=closed,server", "--rate=1500", "--rest=0", "--run=both")
        try:
            said = started[0].communicate(timeout=240)[0]
        finally:
            stop(started)
        asked = len(server.log().number)
    assert started[0].returncode == 3, said  # wrong answers are never VALID
    found = json.loads((tmp_path / "r" / "both" / "summary.json").read_text())
    assert [m["scenario"] for m in found["measurements"]] == ["closed", "server"]
    sent = 0
    for m in found["measurements"]:
        rows = rows_module.read(tmp_path / "r" / "both" / m["samples"])
        assert len(rows) == m["num_requests"] == 1500 == sum(worker["num_requests"] for worker in m["workers"])
        assert rows.num_wrong == m["num_wrong"] > 0 and rows.num_errors == m["num_errors"] == 0
        text = (tmp_path / "r" / "both" / m["samples"]).with_suffix(".hgrm").read_text()
        assert text.endswith(f"= {len(rows):>12}]\n")
        assert m["latency_ms"]["max"] == rows.latency_ms.max()
        assert {window["worker"] for window in m["windows"]} == {0, 1}
        assert any(reason.startswith("worker 1: ") for reason in m["invalid_reasons"])
        sent += sum(window["num_requests"] for window in m["windows"])  # repeats of flagged windows too
    closed, server_m = found["measurements"]
    assert closed["load"] == {"kind": "connections", "value": 4} and server_m["load"] == {"kind": "rate", "value": 1500.0}
    assert asked >= sent  # and the warm-ups


@pytest.mark.slow
def test_a_worker_that_is_lost_is_a_fault_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "body").write_text("7")
    with running(Behaviour(kind="fixed", service_ms=1.0), SPLIT) as server:
        url = [f"--url=http://127.0.0.1:{server.http}/", f"--body={tmp_path / 'body'}"]
        started = locusts(tmp_path, *url, "--scenarios=server", "--rate=50", "--rest=0", "--run=both")
        try:
            deadline = time.monotonic() + 120
            while len(server.log().number) < 4000:  # both are at work
                assert time.monotonic() < deadline and started[0].poll() is None
                time.sleep(0.05)
            for child in psutil.Process(started[1].pid).children(recursive=True):
                child.kill()
            started[1].kill()
            said = started[0].communicate(timeout=120)[0]
        finally:
            stop(started)
    assert started[0].returncode == 1, said
    assert "a worker was lost" in said
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenarios=max_qps", "--rate=100"), "scenario max_qps with 2 workers"),
        (("--scenarios=server",), "2 workers without --rate"),
    ],
)
def test_what_workers_cannot_share_is_a_mistake(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    from faceoff.errors import UsageError
    from loadtest import plan
    from loadtest.options import Options

    (tmp_path / "body").write_text("7")
    choices = {name.lstrip("-"): value for name, value in (argument.split("=") for argument in arguments)}
    rate = float(choices["rate"]) if "rate" in choices else None
    options = Options(url="http://127.0.0.1:9/", body=str(tmp_path / "body"), run="x", scenarios=choices["scenarios"], rate=rate)
    with pytest.raises(UsageError, match=words):
        plan.make(options, (0, 2))
