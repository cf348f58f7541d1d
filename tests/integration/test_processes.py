"""--processes=2: one server, whichever of its processes a connection reaches. (With the light engine: no model is tested.)"""

import contextlib
import http.client
import json
import time
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest

from serving import metrics
from serving import tfs_stubs as tfs
from tests.contract import serverproc
from tests.fakes.onnx_models import save_times

CONNECTIONS = 64  # that all of them reach the same process is as likely as 63 coins that fall alike
DEADLINE_S = 60.0

pytestmark = pytest.mark.skipif(bool(serverproc.REAL), reason="--processes is ours; TENSORFLOW_MODEL_SERVER is set")


@pytest.fixture
def server(tmp_path):
    """Two processes that serve `m`, versions as they appear."""
    base = tmp_path / "models" / "m"
    base.mkdir(parents=True)
    save_times(base / "1", 2.0)
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = ["--engine=onnxruntime", "--processes=2", "--model_name=m", f"--model_base_path={base}"]
    with serverproc.running([*flags, f"--monitoring_config_file={monitoring}"], base, "m") as running:
        # The first process that listens answers; from when both do, the kernel shares connections out.
        deadline = time.monotonic() + DEADLINE_S
        while any(len(ports(worker)) < 2 for worker in workers(running)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield running


@contextlib.contextmanager
def connections(server):
    """Open connections, so many that both processes have some."""
    opened = [http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60) for _ in range(CONNECTIONS)]
    try:
        for connection in opened:
            connection.connect()
        yield opened
    finally:
        for connection in opened:
            connection.close()


def predict(connection, path="/v1/models/m", x=(1.0, 2.0)):
    """Status and body of one row."""
    connection.request("POST", f"{path}:predict", json.dumps({"instances": [list(x)]}))
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def states(server):
    """Version to state, as any process tells it."""
    status, body = server.get("/v1/models/m")
    assert status == 200, body
    return {entry["version"]: entry["state"] for entry in json.loads(body)["model_version_status"]}


def wait_for(server, version, state):
    """Return when the version is in that state; fail at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while states(server).get(version) != state:
        assert time.monotonic() < deadline, states(server)
        time.sleep(0.02)


def ports(worker):
    """Where a process listens."""
    return {c.laddr.port for c in worker.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def workers(server):
    return psutil.Process(server.process.pid).children()


def test_both_processes_answer_and_are_counted_together(server):
    assert len(workers(server)) == 2
    with connections(server) as opened:
        assert [predict(connection) for connection in opened] == [(200, {"predictions": [[2.0, 4.0]]})] * CONNECTIONS
        for worker in workers(server):
            held = [c for c in worker.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
            assert 0 < len(held) < CONNECTIONS
    page = metrics.parse(server.get("/metrics")[1].decode())
    assert page.total(":tensorflow:serving:request_count", model_name="m", status="OK") == CONNECTIONS
    assert page.total(":tensorflow:serving:request_latency_count", model_name="m") == CONNECTIONS
    assert page.total(":tensorflow:cc:saved_model:load_attempt_count") == 1
    assert page.labels(":faceoff:settings")["processes"] == "2"


def test_a_version_is_available_when_all_processes_have_it_and_a_bad_one_changes_nothing(server):
    base = Path(server.model_base)
    save_times(base / "2", 3.0)
    wait_for(server, "2", "AVAILABLE")
    with connections(server) as opened:
        answers = [predict(connection, "/v1/models/m/versions/2") for connection in opened]
    assert answers == [(200, {"predictions": [[3.0, 6.0]]})] * CONNECTIONS
    wait_for(server, "1", "END")
    (base / "3").mkdir()
    (base / "3" / "model.onnx").write_bytes(b"broken")
    wait_for(server, "3", "LOADING")
    with connections(server) as opened:
        assert [predict(connection) for connection in opened] == answers[:1] * CONNECTIONS


def test_a_reload_reaches_every_process_before_it_is_answered(server):
    base = Path(server.model_base)
    request = tfs.model_management_pb2.ReloadConfigRequest()
    model = request.config.model_config_list.config.add(name="m", base_path=str(base), model_platform="tensorflow")
    model.version_labels["stable"] = 1
    with server.channel() as channel:
        tfs.model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)
    with connections(server) as opened:
        assert {predict(connection, "/v1/models/m/labels/stable")[0] for connection in opened} == {200}
    model.version_labels["none"] = 7
    with server.channel() as channel, pytest.raises(grpc.RpcError) as refused:
        tfs.model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_grpc_reaches_both_processes_too(server):
    request = tfs.predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    tensor = request.inputs["x"]
    tensor.dtype, tensor.tensor_content = tfs.types_pb2.DT_FLOAT, np.array([1, 2], np.float32).tobytes()
    for size in (1, 2):
        tensor.tensor_shape.dim.add(size=size)
    with contextlib.ExitStack() as stack:
        channels = [stack.enter_context(server.channel()) for _ in range(CONNECTIONS)]
        for channel in channels:
            answer = tfs.prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
            assert list(answer.outputs["y"].float_val) == [2.0, 4.0]
        held = [len([c for c in w.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]) for w in workers(server)]
    assert sum(held) >= len(channels)
    assert all(held)


def test_a_process_that_dies_takes_the_server_with_it(server):
    first, second = workers(server)
    first.kill()
    assert server.process.wait(timeout=DEADLINE_S) == 255
    psutil.wait_procs([second], timeout=DEADLINE_S)
    assert not second.is_running()
    assert "a worker process has ended, and the server with it" in server.log.read_text()


def test_a_port_that_is_taken_is_not_shared(server):
    flags = [flag for flag in server.flags if not flag.startswith("--monitoring")]
    other = serverproc.spawn(flags, Path(server.model_base), ports=[server.port, server.rest_port])
    try:
        assert other.process.wait(timeout=DEADLINE_S) == 255
        assert f"cannot listen on 127.0.0.1:{server.port} (--port)" in other.log.read_text()
    finally:
        serverproc.stop(other)
        other.log.unlink()
