"""experiment.floors: what is measured where; real floors are in tests/integration/test_compare.py."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from experiment import floors
from experiment.visit import Load
from faceoff.errors import FaceoffError, StageError
from faceoff.signature import Signature, TensorSpec
from tests.unit.experiment.test_compare import SERVERS, experiment

LOAD = Load(profile="quick", scenarios="closed,server", seed=1, rate=250.0)


@pytest.fixture
def asked(monkeypatch):
    """What would have been run, with answers that are made up; only the null server is real."""
    log = []

    def run_stage(module, *options):
        log.append((module, options))
        rows = {"raw": 4000.0, "json": 2000.0} if options[options.index("--kind") + 1] == "handler" else {"tensorflow": 5000.0}
        return {"rows_per_s": {f"{name} 1x1": value for name, value in rows.items()}}

    def measured(folder, *options):
        log.append(("loadtest.run", options))
        valid = "--grpc" not in options
        figures = {"latency_ms": {"mean": 0.2}, "null_server": {"capacity_rps": 9000.0}, "load": {"value": 250.0}}
        return {"measurements": [{**figures, "valid": valid}]}

    spec = TensorSpec(name="image", dtype="float32", shape=(2,))
    rows = SimpleNamespace(inputs={"image": np.zeros((1, 2), np.float32)})
    trained = SimpleNamespace(signature=Signature(inputs=(spec,), outputs=(spec,)), golden=SimpleNamespace(rows=lambda *_: rows))
    monkeypatch.setattr(floors.processes, "run_stage", run_stage)
    monkeypatch.setattr(floors, "measured", measured)
    monkeypatch.setattr(floors.servables, "read_trained", lambda store, model: trained)
    monkeypatch.setattr(
        floors.servables, "read_verified", lambda store, model, version, kind: SimpleNamespace(path=f"/exports/{kind}")
    )
    return log


def test_every_floor_of_both_servers(tmp_path, asked):
    bench = experiment(tmp_path).bench
    found = floors.measure(bench, SERVERS, LOAD, None)
    assert found.short == []
    entries = {(e["kind"], e["server"], e["protocol"], e.get("scenario")): e for e in found.entries}
    assert len(entries) == len(found.entries) == 2 + 4 + 8
    assert entries["in_process", "torchserve", "rest", None]["throughput_rps"] == 2000.0
    assert entries["in_process", "torchserve", "grpc", None]["mean_ms"] == 0.25
    assert entries["in_process", "tfserving-embedded", "grpc", None]["throughput_rps"] == 5000.0
    assert entries["identity", "torchserve", "rest", "closed"]["throughput_rps"] == 500.0
    assert entries["identity", "torchserve", "rest", "server"]["mean_ms"] > 0
    assert found.null_ms == {"rest": 0.2}  # the one over gRPC is INVALID
    assert [entry[0] for entry in bench.log] == [f"floors/identity-{server}" for server in SERVERS]
    (http, grpc) = [options for module, options in asked if module == "loadtest.run"]
    assert "--url" in http and "--grpc" in grpc
    assert http[http.index("--rate") + 1] == "250" and "server" in http


def test_what_there_is_no_time_for_is_left_out_and_said(tmp_path, asked):
    found = floors.measure(experiment(tmp_path).bench, SERVERS, LOAD, time.monotonic() - 1)
    assert found.entries == [] and asked == []
    assert len(found.short) == 5 and all("PROFILE=full" in sentence for sentence in found.short)


def test_a_floor_that_fits_the_time_left_is_measured(tmp_path, asked, monkeypatch):
    monkeypatch.setattr(floors, "EXPECTED_S", {"null": 1e6, "in_process": 1.0, "identity": 1e6})
    found = floors.measure(experiment(tmp_path).bench, SERVERS, LOAD, time.monotonic() + 1e5)
    assert {entry["kind"] for entry in found.entries} == {"in_process"}
    assert len(found.short) == 3


def test_a_floor_that_fails_is_told_and_the_others_are_measured(tmp_path, asked, monkeypatch):
    def broken(*_, **__):
        raise FaceoffError("the null server did not start")

    monkeypatch.setattr(floors, "measured", broken)
    run_stage = floors.processes.run_stage

    def once(module, *options):
        if "handler" in options:
            raise StageError("it was killed")
        return run_stage(module, *options)

    monkeypatch.setattr(floors.processes, "run_stage", once)
    found = floors.measure(experiment(tmp_path).bench, SERVERS, LOAD, None)
    assert {(e["kind"], e["server"]) for e in found.entries} == {
        ("in_process", "tfserving-embedded"),
        ("identity", "torchserve"),
        ("identity", "tfserving-embedded"),
    }
    assert found.short == [
        "floor missing: the null server; it failed: the null server did not start",
        "floor missing: the artifact of torchserve in process; it failed: it was killed",
    ]
