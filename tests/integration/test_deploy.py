"""Real servers on free ports: ready means answering, wrong means refused, stopped means gone."""

import json
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import urllib3

from faceoff import endpoints, golden, manifest, servables
from faceoff.signature import Signature
from faceoff.store import Store
from serving import state
from serving.client import Client, RequestError
from serving.codecs import RawRest
from serving.servers import server_class
from tests.conftest import ROOT, roots
from tests.fakes import tensorflow_model_server


@pytest.fixture(scope="module")
def served(deployed):
    signature = Signature.from_dict(
        manifest.read(deployed.model_dir("cnn"), stage="train", command="make train").config["signature"]
    )
    expected = golden.read(deployed.model_dir("cnn") / "golden", signature)
    return {e.server: e for e in endpoints.read(deployed, model="cnn")}, signature, expected


@pytest.fixture
def beside(exported, tmp_path):
    """Another store with the same exports, for deploys that must not touch the shared servers."""
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    store.artifacts.mkdir()
    (store.artifacts / "cnn").symlink_to(exported.artifacts.resolve() / "cnn")
    yield store
    state.stop_all(store)


def test_both_servers_passed_parity_before_they_became_endpoints(deployed, served):
    found, _, expected = served
    assert sorted(found) == ["tfserving-embedded", "torchserve"]
    record = json.loads((deployed.deploy_dir / "parity.json").read_text())
    assert record["num_rows"] == expected.num_rows
    seen = {(c["server"], c["protocol"], c["encoding"], c["batch_size"], c["concurrent"]) for c in record["checks"]}
    assert (
        len(seen) == len(record["checks"]) == 8 * 5 + 6 * 5 + 2 * 2
    )  # four batch sizes and many requests at once; two of b64 and float_val
    pictures = {(c["server"], c["protocol"], c["encoding"]) for c in record["checks"] if c["encoding"] in ("png", "jpeg")}
    assert len(pictures) == 2 * 2 * 2
    assert all(c["ok"] and c["max_abs_difference"] <= c["tolerance"] for c in record["checks"])


def test_the_whole_test_set_over_the_wire_has_the_accuracy_of_training(deployed):
    record = json.loads((deployed.deploy_dir / "parity.json").read_text())
    trained = servables.read_trained(deployed, "cnn").manifest
    accuracy = trained.metrics["served_accuracy"][trained.config["weights"]]
    assert len(record["test_sets"]) == 2 * 2
    for found in record["test_sets"]:
        assert (found["num_rows"], found["accuracy"], found["trained_accuracy"]) == (360, accuracy, accuracy)
        assert found["max_abs_difference"] <= found["tolerance"]


def test_the_endpoints_say_what_runs(served):
    found, _, _ = served
    assert "not TensorFlow Serving" in found["tfserving-embedded"].implementation
    assert found["torchserve"].settings["reported"]["batchSize"] == found["torchserve"].settings["batch_size"]
    torchserve, embedded = (server_class(name).running(found[name]) for name in ("torchserve", "tfserving-embedded"))
    for now in (torchserve, embedded):
        cores = found[now.server].settings["cores"]
        assert (list(now.cores), now.allocator, now.compute.instances) == (cores, "glibc", 1)
        assert now.compute.intra_op_threads == len(cores)
        assert now.num_threads >= now.compute_threads >= 1
        assert (now.rss_bytes > 2**25, now.cpu_s > 0) == (True, True)
    worker = psutil.Process(torchserve.compute.pids[0])
    assert torchserve.pids[0] in [process.pid for process in worker.parents()]
    assert (torchserve.compute.batching, torchserve.compute.max_batch) == ("none", 1)
    assert torchserve.environment["OMP_NUM_THREADS"] == str(len(torchserve.cores))
    assert (embedded.compute.batching, embedded.compute.batch_unit) == ("natural", "rows")
    assert embedded.environment["TF_ENABLE_ONEDNN_OPTS"] == "1"


@pytest.mark.parametrize("server", ["torchserve", "tfserving-embedded"])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_concurrent_requests_get_their_own_answers(served, server, protocol):
    found, signature, expected = served

    def ask(start):
        rows = expected.rows(start, 1 + start % 3)
        with Client(found[server], signature, protocol=protocol) as client:
            return golden.compare(client.predict(rows.inputs).outputs, rows.outputs, 1e-4).problem

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(48))) == [None] * 48


@pytest.mark.parametrize("server", ["torchserve", "tfserving-embedded"])
def test_a_bad_request_gets_a_400_that_says_why(served, server):
    endpoint = served[0][server]
    path = "/predictions/cnn/1" if server == "torchserve" else "/v1/models/cnn/versions/1:predict"
    for body in (b'{"instances": []}', b'{"instances": "x"}', b"{", b""):
        headers = {"Content-Type": "application/json"}
        answer = urllib3.request("POST", endpoint.rest_url + path, body=body, headers=headers, retries=False, timeout=20.0)
        assert answer.status == 400, (body, answer.data)
        assert json.loads(answer.data)["error"]
        assert b"Traceback" not in answer.data


def test_a_bad_raw_body_fails_alone(served):
    found, signature, expected = served
    rows = expected.rows(0, 1)
    with Client(found["torchserve"], signature, protocol="rest", encoding="raw") as client:
        good = client.codec

        class Cut(RawRest):
            def encode(self, inputs):
                return super().encode(inputs)[:-1]

        client.codec = Cut(route=good.route, encoding="raw", signature=signature, model="cnn", version=1)
        with pytest.raises(RequestError, match=r"HTTP 400.*not whole rows"):
            client.predict(rows.inputs)
        client.codec = good
        assert golden.compare(client.predict(rows.inputs).outputs, rows.outputs, 1e-4).problem is None


def test_predict_shows_every_endpoint_side_by_side(run, deployed, served, tmp_path):
    _, _, expected = served
    np.save(tmp_path / "digit.npy", expected.inputs["images"][0])
    done = run("serving.predict", "--input", str(tmp_path / "digit.npy"), *roots(deployed))
    assert done.code == 0
    assert [(a["server"], a["protocol"]) for a in done.result["answers"]] == [
        (server, protocol) for server in ("torchserve", "tfserving-embedded") for protocol in ("rest", "grpc")
    ]
    assert len({tuple(a["classes"]) for a in done.result["answers"]}) == 1
    assert done.result["max_abs_difference"] < 1e-4


def test_predict_refuses_an_input_of_another_shape(run, deployed, tmp_path):
    np.save(tmp_path / "bad.npy", np.zeros((3, 3), np.float32))
    done = run("serving.predict", "--input", str(tmp_path / "bad.npy"), *roots(deployed))
    assert (done.code, "has shape (3, 3): expected (batch, 8, 8, 1)" in done.result["error"]) == (2, True)


def test_status_says_ready_and_how_much_memory(run, deployed):
    servers = run("serving.status", *roots(deployed)).result["servers"]
    assert [(s["server"], s["running"], s["ready"]) for s in servers] == [
        ("torchserve", True, True),
        ("tfserving-embedded", True, True),
    ]
    assert all(s["rss_mib"] > 50 for s in servers)


def test_nothing_of_ours_listens_beyond_loopback(deployed):
    for owned in state.read(deployed):
        tree = [psutil.Process(owned.pid), *psutil.Process(owned.pid).children(recursive=True)]
        for process in tree:
            for connection in process.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip in ("127.0.0.1", "::ffff:127.0.0.1"), (owned.server, connection.laddr)


def test_predict_and_loadtest_before_deploy_name_the_command(run, beside, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((8, 8, 1), np.float32))
    for module, *options in (["serving.predict", "--input", str(tmp_path / "x.npy")], ["loadtest.run"]):
        done = run(module, *options, *roots(beside))
        assert (done.code, "run: make deploy" in done.result["error"]) == (2, True)
    assert not beside.results.exists()


def test_a_port_in_use_is_a_clear_error_and_nothing_starts(run, beside):
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 8501))
        holder.listen()
        done = run("serving.deploy", "--servers", "tfserving-embedded", *roots(beside))
    assert (done.code, done.result["status"]) == (2, "usage")
    assert "port 8501 (tfserving rest) is in use" in done.result["error"]
    assert state.read(beside) == []


def test_a_missing_java_is_a_clear_error_and_nothing_starts(run, beside, tmp_path):
    env = {"JAVA_HOME": str(tmp_path / "nowhere")}
    done = run("serving.deploy", "--servers", "torchserve,tfserving-embedded", "--ports", "free", *roots(beside), env=env)
    assert (done.code, "no working Java" in done.result["error"]) == (2, True)
    assert state.read(beside) == []


def test_a_server_that_answers_wrongly_is_never_an_endpoint(run, beside, tmp_path):
    program = tensorflow_model_server.install(tmp_path)
    env = {"TENSORFLOW_MODEL_SERVER": str(program)}
    done = run("serving.deploy", "--servers", "tfserving", "--ports", "free", *roots(beside), env=env)
    assert (done.code, done.result["status"]) == (1, "fault")
    assert "tfserving over rest (json), golden rows 0 to 0 answers wrongly: largest difference" in done.result["error"]
    assert not beside.endpoints.exists()
    assert state.read(beside) == []
    assert f"the real TensorFlow Serving, {program}" in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_deploy_leaves_nothing_running(beside, sent):
    command = [sys.executable, "-m", "serving.deploy", "--servers", "torchserve,onnxruntime", "--ports", "free"]
    process = subprocess.Popen([*command, *roots(beside)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        deadline = time.monotonic() + 120
        while len(owned := state.read(beside)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(sent)
        stdout, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert json.loads(stdout.strip().splitlines()[-1]) == {"status": "fault", "error": "interrupted"}
    assert len(owned) == 2
    assert not any(server.alive() for server in owned)
    assert state.read(beside) == []


def test_two_deploys_at_once_are_refused(run, beside):
    with state.lock(beside, "deploy"):
        done = run("serving.deploy", "--servers", "tfserving-embedded", "--ports", "free", *roots(beside))
        assert (done.code, "is at work" in done.result["error"]) == (2, True)
        done = run("serving.undeploy", *roots(beside))
        assert (done.code, "is at work" in done.result["error"]) == (2, True)


@pytest.mark.parametrize("target", ["compose", "k8s", "cloud"])
def test_a_target_that_is_not_there_yet_says_so(run, beside, target):
    done = run("serving.deploy", "--target", target, *roots(beside))
    assert (done.code, done.result["status"]) == (2, "usage")
