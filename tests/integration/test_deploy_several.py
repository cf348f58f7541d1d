"""Several servers and versions at once, the real TensorFlow Serving's configuration, an added server, a server that dies."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import urllib3

from faceoff import endpoints, golden, servables
from faceoff.store import Store
from serving import state, warmup
from serving.client import Client
from serving.servers import server_class
from tests.conftest import ROOT, roots
from tests.fakes import tensorflow_model_server
from tests.fakes.versions import add_version


@pytest.fixture(scope="module")
def two_versions(exported, tmp_path_factory):
    """A store of its own with versions 1 and 2; whatever is deployed from it is stopped at the end."""
    root = tmp_path_factory.mktemp("several")
    store = Store(artifacts=root / "artifacts", results=root / "results")
    shutil.copytree(exported.model_dir("cnn"), store.model_dir("cnn"))
    add_version(store, "cnn", 2)
    yield store
    state.stop_all(store)


@pytest.fixture(scope="module")
def several(two_versions, run, tmp_path_factory):
    """TorchServe and a (right) tensorflow_model_server with two versions each, labelled."""
    program = tensorflow_model_server.install(tmp_path_factory.mktemp("bin"), "right")
    options = ("--version", "1,2", "--ports", "free", "--cores", "0", "--share-generator", "--labels", "stable=1,canary=2")
    env = {"TENSORFLOW_MODEL_SERVER": str(program)}
    done = run("serving.deploy", "--servers", "torchserve,tfserving", *options, *roots(two_versions), env=env)
    assert done.code == 0, done.stderr[-3000:]
    assert done.result["models"] == ["cnn/1", "cnn/2"]
    return two_versions


def test_every_server_and_version_is_an_endpoint_with_parity_of_its_own(several):
    found = endpoints.read(several)
    expected = {(server, version) for server in ("torchserve", "tfserving") for version in (1, 2)}
    assert {(e.server, e.version) for e in found} == expected
    assert len(found) == 4
    assert len({e.export_sha256 for e in found}) == 2
    record = json.loads((several.deploy_dir / "parity.json").read_text())
    assert {(c["server"], c["model"], c["version"]) for c in record["checks"]} == {(s, "cnn", v) for s, v in expected}
    assert len(state.read(several)) == 2
    for owned in state.read(several):
        assert psutil.Process(owned.pid).cpu_affinity() == [0]


def test_every_version_answers_over_every_protocol(several):
    trained = servables.read_trained(several, "cnn")
    rows = trained.golden.rows(3, 2)
    for endpoint in endpoints.read(several):
        for protocol in ("rest", "grpc"):
            with Client(endpoint, trained.signature, protocol=protocol) as client:
                assert golden.compare(client.predict(rows.inputs).outputs, rows.outputs, 1e-4).problem is None


def test_labels_name_the_versions(several):
    (endpoint,) = [e for e in endpoints.read(several, servers=["tfserving"]) if e.version == 2]
    rows = servables.read_trained(several, "cnn").golden.rows(0, 1).inputs["images"].tolist()
    for label, status in (("stable", 200), ("canary", 200), ("none", 400)):
        url = f"{endpoint.rest_url}/v1/models/cnn/labels/{label}:predict"
        body = json.dumps({"instances": rows})
        answer = urllib3.request(
            "POST", url, body=body, headers={"Content-Type": "application/json"}, retries=False, timeout=20.0
        )
        assert answer.status == status, answer.data


def test_status_is_what_the_servers_say(several, run):
    done = run("serving.status", *roots(several))
    torchserve, tfserving = done.result["servers"]
    assert (torchserve["ready"], tfserving["ready"], torchserve["fault"]) == (True, True, None)
    assert [(m["model"], m["version"], m["ready"]) for m in tfserving["models"]] == [("cnn", 1, True), ("cnn", 2, True)]
    assert tfserving["implementation"] == "TensorFlow ModelServer: 0.0.0-fake"
    assert [m["settings"]["modelVersion"] for m in torchserve["models"]] == ["1", "2"]
    assert torchserve["models"][0]["settings"]["workers"][0]["status"] == "READY"
    assert tfserving["models"][0]["settings"]["versions"] == {"1": "AVAILABLE", "2": "AVAILABLE"}
    assert tfserving["models"][0]["settings"]["flags"]["grpc_max_threads"] == "128"
    assert "serving_default" in tfserving["models"][0]["settings"]["signatures"]
    assert all(s["rss_mib"] > 50 and s["cpu_s"] > 0 for s in (torchserve, tfserving))
    first, second = (s["models"][0]["running"] for s in (torchserve, tfserving))
    assert first["cores"] == second["cores"] == [0]
    assert (first["compute"]["instances"], first["compute"]["intra_op_threads"], second["compute"]["instances"]) == (1, 1, 1)
    assert (first["compute"]["batching"], second["compute"]["batching"]) == ("none", "none")
    assert "instances of 1 threads, batching none" in done.stderr


def test_metrics_count_what_was_asked(several):
    trained = servables.read_trained(several, "cnn")
    for endpoint in [e for e in endpoints.read(several) if e.version == 2]:
        kind = server_class(endpoint.server)
        before = kind.metrics(endpoint)
        for protocol, count in (("rest", 5), ("grpc", 3)):
            with Client(endpoint, trained.signature, protocol=protocol) as client:
                for start in range(count):
                    client.predict(trained.golden.rows(start, 1).inputs)
        happened = kind.metrics(endpoint).since(before)
        assert (happened.requests, happened.errors) == (8, 0)
        assert happened.compute_ms > 0
        assert happened.queue_ms >= 0


def test_predict_chooses_server_protocol_and_version_and_reads_standard_input(several):
    rows = servables.read_trained(several, "cnn").golden.rows(0, 3).inputs["images"]
    options = ("--input", "-", "--server", "tfserving", "--protocol", "rest", "--version", "2", *roots(several))
    done = subprocess.run(
        [sys.executable, "-m", "serving.predict", *options],
        input=json.dumps({"instances": rows.tolist()}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert [(a["server"], a["version"], a["protocol"]) for a in result["answers"]] == [("tfserving", 2, "rest")]
    assert result["rows"] == ["stdin[0]", "stdin[1]", "stdin[2]"]
    assert len(result["answers"][0]["classes"]) == 3


def test_predict_of_a_folder_shows_where_servers_differ(several, run, tmp_path):
    rows = servables.read_trained(several, "cnn").golden.rows(0, 2).inputs["images"]
    for index, row in enumerate(rows):
        np.save(tmp_path / f"{index}.npy", row)
    done = run("serving.predict", "--input", str(tmp_path), *roots(several))
    assert (done.code, len(done.result["answers"]), done.result["rows"]) == (0, 8, ["0.npy", "1.npy"])
    assert done.result["rows_with_different_classes"] == []
    assert done.result["max_abs_difference"] < 1e-4
    refused = run("serving.predict", "--input", str(tmp_path), "--version", "7", *roots(several))
    assert (refused.code, "expected one of [1, 2]" in refused.result["error"]) == (2, True)


def test_the_tuned_tensorflow_serving_gets_its_batching_parameters(two_versions, run, tmp_path):
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    store.artifacts.mkdir()
    (store.artifacts / "cnn").symlink_to(two_versions.model_dir("cnn").resolve())
    env = {"TENSORFLOW_MODEL_SERVER": str(tensorflow_model_server.install(tmp_path, "right"))}
    over = {"warmup_requests": 40, "batching": {"max_batch_size": 128, "allowed_batch_sizes": [8, 128]}}
    (tmp_path / "settings.yaml").write_text(f"tfserving: {json.dumps(over)}\n")
    settings = ("--tuning", "tuned", "--settings", str(tmp_path / "settings.yaml"))
    options = ("--servers", "tfserving,onnxruntime", *settings, "--ports", "free", *roots(store))
    try:
        done = run("serving.deploy", *options, env=env)
        assert done.code == 0, done.stderr[-3000:]
        endpoint, reference = endpoints.read(store)
        assert (reference.server, reference.artifact_format) == ("onnxruntime", "onnx")
        assert "a reference" in reference.implementation
        assert (endpoint.settings["tuning"], endpoint.settings["overrides"]) == ("tuned", over)
        assert endpoint.settings["warmed_up"] == endpoint.settings["warmup_requests"] == 40
        text = (store.deploy_dir / "tfserving" / "batching.config").read_text()
        assert "max_batch_size { value: 128 }" in text
        assert "allowed_batch_sizes: 8\nallowed_batch_sizes: 128\n" in text
        assert f"num_batch_threads {{ value: {endpoint.settings['batching']['num_batch_threads']} }}" in text
        now = server_class("tfserving").running(endpoint)
        assert (now.compute.batching, now.compute.max_batch, now.compute.batch_unit) == ("timed", 128, "rows")
        assert now.compute.max_batch_delay_ms == endpoint.settings["batching"]["batch_timeout_micros"] / 1e3
        assert (now.compute.intra_op_threads, now.warmup_requests) == (1, 40)
        assert now.environment["TF_ENABLE_ONEDNN_OPTS"] == "1"
        # A model too slow for the whole count is warmed for as long as allowed, and what was sent is on record.
        assert warmup.warmed(endpoint, servables.read_trained(store, "cnn"), limit_s=0.0).settings["warmed_up"] == 0
        # A server that dies is dead, with its last words, and undeploy is still no error.
        owned, _ = state.read(store)
        log = Path(owned.log)
        psutil.Process(owned.pid).kill()
        psutil.wait_procs([psutil.Process(owned.pid)] if psutil.pid_exists(owned.pid) else [], timeout=30)
        with log.open("a") as file:
            file.write("2026-01-02 03:04:05.678: F its last words\n")
        status = run("serving.status", *roots(store))
        server, alive = status.result["servers"]
        assert (alive["server"], alive["ready"], alive["fault"]) == ("onnxruntime", True, None)
        assert alive["models"][0]["running"]["compute"]["batching"] == "natural"
        assert (server["running"], server["ready"], server["rss_mib"]) == (False, False, 0)
        assert server["fault"] == "2026-01-02 03:04:05.678: F its last words"
        assert server["last_words"].endswith("its last words")
        assert "DEAD" in status.stderr
    finally:
        stopped = run("serving.undeploy", *roots(store))
    assert stopped.result["stopped"] == ["onnxruntime"]


def test_a_deploy_of_another_version_replaces_the_first_and_undeploy_twice_is_safe(two_versions, run, tmp_path):
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    store.artifacts.mkdir()
    (store.artifacts / "cnn").symlink_to(two_versions.model_dir("cnn").resolve())
    options = ("--servers", "onnxruntime", "--ports", "free", *roots(store))
    try:
        assert run("serving.deploy", *options).code == 0
        (first,) = state.read(store)
        done = run("serving.deploy", "--version", "2", *options)
        assert (done.code, "stopped the servers of an earlier deploy" in done.stderr) == (0, True)
        (second,) = state.read(store)
        assert (first.alive(), second.alive()) == (False, True)
        (endpoint,) = endpoints.read(store)
        versions = server_class(endpoint.server).reported(endpoint)["versions"]
        assert (endpoint.version, versions) == (2, {"2": "AVAILABLE"})
        assert run("serving.undeploy", *roots(store)).result["stopped"] == ["onnxruntime"]
        assert not second.alive()
        assert not store.endpoints.exists()
        assert run("serving.undeploy", *roots(store)).result["stopped"] == []
    finally:
        state.stop_all(store)


def test_a_server_added_by_the_page_goes_through_the_whole_life(two_versions, run, tmp_path):
    """docs/adding-a-server.md: one module (tests/fakes/added_server.py) and one line, here made before the command."""
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    store.artifacts.mkdir()
    (store.artifacts / "cnn").symlink_to(two_versions.model_dir("cnn").resolve())
    line = "servers.SERVERS['added'] = 'tests.fakes.added_server:Added'"

    def command(module, *options):
        arguments = [*options, *roots(store)]
        code = f"from serving import servers; {line}; from {module} import main; raise SystemExit(main({arguments!r}))"
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    try:
        code, result = command("serving.deploy", "--servers", "added", "--ports", "free")
        assert (code, result["endpoints"]) == (0, ["added"]), result
        (server,) = command("serving.status")[1]["servers"]
        assert (server["ready"], server["models"][0]["settings"]) == (True, {"answers": "known rows"})
        assert server["requests"] > 0
    finally:
        code, result = command("serving.undeploy")
    assert (code, result["stopped"]) == (0, ["added"])


SAID = ("reported", "compute", "metrics", "schema", "settings", "servable_format", "log_files", "standard_ports")


def test_the_page_about_adding_a_server_names_what_a_server_has_to_say():
    text = (ROOT / "docs" / "adding-a-server.md").read_text()
    from serving.lifecycle import Server

    for name in (*Server.__abstractmethods__, *SAID):
        assert f"`{name}" in text, name
    for path in re.findall(r"`((?:serving|tests|presets)/[\w/.-]+\.(?:py|yaml))`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--version", "1,9"), "run: make export MODEL=cnn VERSION=9"),
        (("--version", "1,1"), "VERSION=1,1: expected one or more different"),
        (("--version", "x"), "expected integers of at least 1"),
        (("--model", "cnn,cnn"), "MODEL=cnn,cnn: expected one or more different"),
        (("--labels", "stable=9"), "LABELS=stable=9: found 'stable=9'"),
        (("--cores", "999"), "core 999 is not usable here"),
        (("--ports", "x=1"), "expected one of"),
    ],
)
def test_what_cannot_be_deployed_is_one_line_and_nothing_starts(two_versions, run, tmp_path, options, words):
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    store.artifacts.mkdir()
    (store.artifacts / "cnn").symlink_to(two_versions.model_dir("cnn").resolve())
    done = run("serving.deploy", "--servers", "tfserving-embedded", *options, *roots(store))
    assert (done.code, done.result["status"]) == (2, "usage")
    assert words in done.result["error"]
    assert state.read(store) == []


@pytest.mark.parametrize(
    ("kind", "name", "calls"), [("handler", "cnn.mar", ("raw", "json")), ("onnx", "cnn_torch.onnx", ("onnxruntime",))]
)
def test_the_limit_in_process_is_measured_with_the_servables_own_code(two_versions, run, kind, name, calls):
    artifact = two_versions.export_dir("cnn", 1) / name
    options = ("--kind", kind, "--artifact", str(artifact), "--shapes", "2x3", "--cores", "0", "--seconds", "0.05")
    done = run("serving.inprocess", *options, *roots(two_versions))
    assert done.code == 0, done.stderr[-2000:]
    assert sorted(done.result["rows_per_s"]) == sorted(f"{call} 2x3" for call in calls)
    assert all(rate > 0 for rate in done.result["rows_per_s"].values())
    assert (done.result["cores"], done.result["rss_mib"] > 30) == ([0], True)
