"""The Makefile as a user runs it: the last line of stdout is JSON, also when something is wrong."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from faceoff.store import Store
from serving import state
from tests.conftest import ROOT
from tests.static import check_stopped

pytestmark = pytest.mark.e2e

TARGETS = {
    *(
        "demo",
        "setup",
        "train",
        "train-all",
        "train-tensorboard",
        "export",
        "verify",
        "deploy",
        "status",
        "predict",
        "loadtest",
        "loadtest-calibrate",
        "loadtest-selftest",
        "loadtest-ui",
        "compare",
        "report",
    ),
    *("compare-runs", "report-benchmark", "report-serve", "setup-formats"),
    *("undeploy", "check", "test", "test-fast", "test-all", "e2e", "e2e-containers", "gpu-check", "clean", "help"),
}


def make(*args: str, timeout_s: float = 600) -> tuple[int, dict, str]:
    """Run make; returns its exit code, the JSON of the last line of stdout, and stderr."""
    # make passes its own flags and variables on to a make below it; a user's make has none above it.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", *args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
    return done.returncode, json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


@pytest.fixture
def variables(tmp_path: Path) -> tuple[str, ...]:
    return f"ARTIFACTS={tmp_path / 'artifacts'}", f"RESULTS={tmp_path / 'results'}"


def test_help_lists_every_target_with_one_line_each():
    code, result, listing = make("help")
    assert (code, result["status"]) == (0, "ok")
    named = [line.split()[0] for line in listing.strip().splitlines()]
    assert len(named) == len(TARGETS)
    assert set(named) == TARGETS
    assert all(len(line.split()) > 2 for line in listing.strip().splitlines())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "MODEL=nope"], "unknown model 'nope'"),
        (["train", "DATASET=nope"], "unknown data set 'nope'"),
        (["export"], "run: make train"),
        (["verify"], "run: make train"),
        (["deploy"], "run: make train"),
        (["deploy", "SERVERS=nope"], "unknown server 'nope'"),
        (["deploy", "TARGET=nope"], "unknown target 'nope'"),
        (["predict"], "run: make deploy"),
        (["loadtest"], "run: make deploy"),
        (["train", "RUN=it's"], 'run name "it\'s"'),
        (["loadtest", "TARGET=nope"], "unknown target 'nope'"),
        (["loadtest", "SCENARIO=nope"], "nope"),
        (["loadtest", "PROFILE=nope"], "unknown profile 'nope'"),
        (["report"], "run: make loadtest"),
        (["compare", "SERVERS=torchserve"], "at least two servers"),
        (["compare", "PROFILE=nope"], "unknown profile 'nope'"),
    ],
)
def test_a_users_mistake_is_one_json_line_and_leaves_nothing(args, words, variables, tmp_path):
    code, result, _ = make(*args, *variables)
    assert (code, result["status"]) == (2, "usage")
    assert words in result["error"]
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"] == []


def test_a_python_that_does_not_fit_is_said_before_anything_is_installed(tmp_path):
    python = tmp_path / "python3.12"
    python.write_text(
        '#!/bin/sh\nexec python3 -c "import sys; sys.version_info = (3, 12, 0); import runpy; '
        "runpy.run_module('faceoff.platform_check', run_name='__main__')\"\n"
    )
    python.chmod(0o755)
    code, result, _ = make("setup", f"PYTHON={python}")
    assert (code, result["status"]) == (2, "usage")
    assert "expected CPython 3.11" in result["error"]


def test_the_whole_path_by_hand(variables, tmp_path):
    """What the README says, target by target, with one protocol and one scenario."""
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    narrow = ("SERVERS=tfserving-embedded", "PROTOCOLS=rest", "SCENARIO=closed", "RUN=hand")
    try:
        for target in ("train", "export", "verify"):
            assert make(target, *variables)[1]["status"] == "ok"
        assert make("deploy", "PORTS=free", *narrow, *variables)[1]["endpoints"] == ["tfserving-embedded"]
        assert make("status", *variables)[1]["servers"][0]["ready"] is True
        assert make("clean", *variables)[1] == {"status": "usage", "error": "servers are deployed; run make undeploy first"}
        code, result, _ = make("loadtest", *narrow, *variables)
        # Whether the machine was quiet enough is not this test's to say.
        assert (code, result["status"]) in {(0, "ok"), (2, "invalid")}
        summary = json.loads((store.run_dir("hand") / "summary.json").read_text())
        assert [m["server"] for m in summary["measurements"]] == ["tfserving-embedded"]
        assert all(m["num_wrong"] == 0 for m in summary["measurements"])
        assert summary["comparisons"] == []
        assert make("report", *variables)[1]["report"] == str(store.run_dir("hand") / "report.html")
    finally:
        assert make("undeploy", *variables)[1]["stopped"] in (["tfserving-embedded"], [])
    assert state.read(store) == []
    assert make("clean", *variables)[1]["status"] == "ok"
    assert not store.artifacts.exists()


@pytest.mark.slow
def test_the_demo(variables, tmp_path):
    code, result, stderr = make("demo", *variables, timeout_s=900)
    assert (code, result["status"]) in {(0, "ok"), (2, "invalid")}, stderr[-3000:]
    summary = json.loads((tmp_path / "results" / "demo" / "summary.json").read_text())
    combinations = {(m["server"], m["protocol"], m["scenario"]) for m in summary["measurements"]}
    servers = {m["server"] for m in summary["measurements"]}
    assert len(servers) == 2
    assert combinations == {(s, p, c) for s in servers for p in ("rest", "grpc") for c in ("closed", "server")}
    assert all(m["num_wrong"] == 0 for m in summary["measurements"])
    assert (tmp_path / "results" / "demo" / "report.html").exists()
    assert any((tmp_path / "results" / "demo" / "samples").iterdir())
    assert state.read(Store(artifacts=tmp_path / "artifacts")) == []
    assert check_stopped.left(tmp_path / "results" / "demo") == []
