"""Real visits: what is read of a running server, an unfairness planted in one, an experiment that is interrupted."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest

from experiment import fairness
from experiment.visit import Bench, Load
from faceoff.store import Store
from tests.conftest import ROOT, roots, run_module

SERVER = "tfserving-embedded"


@pytest.fixture
def beside(exported, tmp_path):
    """Another store with the same exports."""
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    store.artifacts.mkdir()
    (store.artifacts / "cnn").symlink_to(exported.artifacts.resolve() / "cnn")
    yield store
    run_module("serving.undeploy", *roots(store))


def test_unfairness_that_is_planted_in_a_real_server_is_caught(beside, tmp_path):
    bench = Bench(store=beside, model="cnn", device="cpu", protocols=("rest",), folder=tmp_path / "run")
    load = Load(profile="quick", scenarios="closed", seed=1, rest_s=0)
    planted = {
        "flags": {"tensorflow_intra_op_parallelism": 3},
        "batching": {"max_batch_size": 128, "batch_timeout_micros": 100},
        "environment": {"NVIDIA_TF32_OVERRIDE": "1", "TF_ENABLE_AUTO_MIXED_PRECISION": "1"},
    }
    plain = bench.visit("plain", SERVER, tuning="default", overrides={}, load=load)
    other = bench.visit("planted", SERVER, tuning="default", overrides=planted, load=load)
    bench.stop()
    # Whether the machine is at rest is not this test's to say.
    facts = [{**visited.facts, "other_load": "at rest"} for visited in (plain, other)]
    assert set(facts[0]) == set(fairness.rules())
    assert [name for name, value in facts[0].items() if value is None] == []
    assert facts[0]["keep_alive"] is True and facts[0]["device"] == "cpu" and facts[0]["instances"] == 1
    assert facts[0]["warm_up"] == 4000
    assert facts[0]["precision"] == {"served": "float32", "lowered_by": {}}
    found = {f.name: f.verdict for f in fairness.check("studies nothing", (SERVER, facts[:1]), (SERVER, facts[1:]))}
    assert {name for name, verdict in found.items() if verdict != "equal"} == {"threads", "batching", "tf32", "precision"}
    (measurement,) = plain.measurements
    assert measurement["num_wrong"] == 0 and measurement["server_use"]["cpu_us_per_request"] > 0
    assert (plain.folder / measurement["samples"]).is_file()
    assert json.loads((plain.folder / "facts.json").read_text()) == plain.facts
    assert (tmp_path / "run" / "records" / "training.json").is_file()


@pytest.mark.slow
def test_an_interrupted_experiment_leaves_no_server_and_keeps_what_it_has(beside):
    command = [
        sys.executable,
        "-m",
        "experiment.compare",
        "--servers",
        f"{SERVER},torchserve",
        "--profile",
        "smoke",
        *roots(beside),
    ]
    for stage in ("training.train", "export.export"):
        assert run_module(stage, "--model", "identity", *roots(beside)).code == 0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            state = beside.deploy_dir / "state.json"
            deadline = time.monotonic() + 240
            while not beside.endpoints.exists():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            pids = [owned["pid"] for owned in json.loads(state.read_text())]
            assert pids and all(psutil.pid_exists(pid) for pid in pids)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=240)
        finally:
            process.kill()
    result = json.loads(stdout.strip().splitlines()[-1])
    assert (process.returncode, result["status"]) == (1, "fault"), stderr[-2000:]
    assert not state.exists() and not beside.endpoints.exists()
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)
    assert [path.name for path in beside.results.iterdir()] == ["compare.partial"]


@pytest.mark.slow
def test_the_whole_experiment(exported, tmp_path):
    """A server on each side, one protocol, every step, with a price list: about ten minutes."""
    prices = tmp_path / "prices.yaml"
    prices.write_text("currency: EUR\nper_core_hour: 0.04\n")
    done = run_module(
        *("experiment.compare", "--servers", f"torchserve,{SERVER}", "--protocols", "rest", "--profile", "smoke"),
        *("--run", "whole", "--prices", str(prices), *roots(exported)),
        timeout_s=2400,
    )
    # Whether the machine was quiet enough is not this test's to say.
    assert (done.code, done.result["status"]) in {(0, "ok"), (3, "invalid")}, done.stderr[-3000:]
    folder = exported.results / "whole"
    record, summary = (json.loads((folder / name).read_text()) for name in ("compare.json", "summary.json"))
    assert len(record["visits"]) == 2 * (4 + 1) + 4 and record["failed"] == []
    assert {floor["kind"] for floor in record["floors"]} == {"null", "in_process", "identity"}
    fair = {rule["name"]: rule["verdict"] for rule in record["fairness"] if rule["name"] != "other_load"}
    assert set(fair.values()) <= {"equal", "declared"}, record["invalid_reasons"]
    assert all(entry["per_million"] > 0 for entry in record["cost"])
    by_role = Counter(m["role"] for m in summary["measurements"])
    assert by_role["ab"] + by_role["aa"] == 10 * 3
    wide = [m for m in summary["measurements"] if m["role"] == "wide"]
    assert Counter((m["server"], m["scenario"]) for m in wide) == {
        **{(server, "sweep"): 2 * 7 for server in ("torchserve", SERVER)},
        ("torchserve", "closed"): 2 * 4,  # json, b64, raw, npy
        (SERVER, "closed"): 2,
    }
    assert all(m["null_server"]["capacity_rps"] for m in summary["measurements"])
    assert (folder / "records" / "calibration.json").is_file()
    assert all((folder / measurement["samples"]).is_file() for measurement in summary["measurements"])
    assert (folder / "report.html").is_file()
    assert not exported.endpoints.exists()
