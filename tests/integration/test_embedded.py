"""The embedded server as a process: both protocols, batching under load, hot loading, faults at the start, a clean stop."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from faceoff.processes import environment
from serving import tfs_stubs as tfs
from tests.contract import serverproc
from tests.contract.serverproc import Server

pytestmark = pytest.mark.skipif(bool(serverproc.REAL), reason="these are the embedded server's own")
DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders that tests may add versions to; `affine` starts with version 1 only."""
    base = serverproc.unpack_models(tmp_path_factory.mktemp("models"))
    shutil.move(base / "affine" / "2", base / "affine_2")
    return base


def write_config(path: Path, models: Path, *names: str) -> None:
    entries = [f'config {{ name: "{name}" base_path: "{models / name}" model_platform: "tensorflow" }}' for name in names]
    path.write_text("model_config_list {\n" + "\n".join(entries) + "\n}\n")


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("config")
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{models / name}" model_platform: "tensorflow" }}\n'
        for name in ("affine", "images")
    )
    (folder / "models.config").write_text(f"model_config_list {{ {entries} }}")
    (folder / "monitoring.config").write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = [
        f"--model_config_file={folder}/models.config",
        "--model_config_file_poll_wait_seconds=1",
        f"--monitoring_config_file={folder}/monitoring.config",
        "--max_num_load_retries=0",
    ]
    with serverproc.running(flags, models, "images") as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    opened = server.channel()
    yield opened
    opened.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rest_predict(server: Server, model: str, rows: np.ndarray) -> np.ndarray:
    status, body = server.post(f"/v1/models/{model}:predict", json.dumps({"instances": rows.tolist()}).encode())
    assert status == 200, body
    return np.array(json.loads(body)["predictions"], "f4")


def grpc_predict(channel: grpc.Channel, model: str, alias: str, rows: np.ndarray) -> np.ndarray:
    request = tfs.predict_pb2.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs[alias]
    tensor.dtype = 1
    for size in rows.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = rows.astype("<f4").tobytes()
    data = channel.unary_unary(tfs.PREDICT)(request.SerializeToString(), timeout=60)
    (output,) = tfs.predict_pb2.PredictResponse.FromString(data).outputs.values()
    return np.array(output.float_val, "f4").reshape([dim.size for dim in output.tensor_shape.dim])


def states(server: Server, model: str) -> dict[int, str]:
    status, body = server.get(f"/v1/models/{model}")
    assert status == 200
    return {int(entry["version"]): entry["state"] for entry in json.loads(body)["model_version_status"]}


def test_rest_and_grpc_answer_the_same(server: Server, channel: grpc.Channel) -> None:
    images = (np.random.default_rng(1).integers(0, 256, (5, 28, 28, 1)) / 256).astype("f4")
    over_rest = rest_predict(server, "images", images)
    assert over_rest.shape == (5, 10)
    np.testing.assert_allclose(over_rest, grpc_predict(channel, "images", "images", images), atol=1e-5)


def test_answers_stay_with_their_requests_when_they_are_batched(server: Server, channel: grpc.Channel) -> None:
    rng = np.random.default_rng(2)
    requests = [(rng.integers(0, 256, (1 + index % 4, 28, 28, 1)) / 256).astype("f4") for index in range(96)]
    expected = [rest_predict(server, "images", rows) for rows in requests[:8]]
    with concurrent.futures.ThreadPoolExecutor(24) as clients:
        over_grpc = list(clients.map(lambda rows: grpc_predict(channel, "images", "images", rows), requests))
        over_rest = list(clients.map(lambda rows: rest_predict(server, "images", rows), requests))
    for one, other in zip(over_grpc, over_rest, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    for one, other in zip(expected, over_rest, strict=False):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_one_bad_request_among_many_is_alone_in_failing(server: Server) -> None:
    good, bad = json.dumps({"instances": np.ones((1, 28, 28, 1)).tolist()}), json.dumps({"instances": [[[1, 2], [3, 4]]]})
    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        answers = list(
            clients.map(lambda body: server.post("/v1/models/images:predict", body.encode())[0], [good, good, bad, good] * 12)
        )
    assert answers == [200, 200, 400, 200] * 12


def test_an_error_inside_the_graph_names_the_models_own_function(server: Server) -> None:
    status, body = server.post("/v1/models/images:predict", b'{"instances": [[1, 2, 3]]}')
    assert status == 400
    assert "{{function_node __inference_serve_119}}{{node Sum}}" in json.loads(body)["error"]


def test_status_answers_while_a_large_request_is_parsed(server: Server) -> None:
    body = b'{"instances": [' + b", ".join([b"1.0000000001"] * 300_000) + b"]}"
    with concurrent.futures.ThreadPoolExecutor(1) as clients:
        large = clients.submit(server.post, "/v1/models/affine:predict", body)
        while not large.done():
            assert server.get("/v1/models/images")[0] == 200
        assert large.result()[0] == 200


def test_a_new_version_is_loaded_while_requests_go_on_and_a_corrupt_one_costs_nothing(server: Server, models: Path) -> None:
    assert states(server, "affine") == {1: "AVAILABLE"}
    body = b'{"instances": [1]}'
    seen = []

    def switched() -> bool:
        status, answer = server.post("/v1/models/affine:predict", body)
        seen.append((status, answer))
        return b"3.5" in answer

    shutil.move(models / "affine_2", models / "affine" / "2")
    until(switched)
    assert {status for status, _ in seen} == {200}
    until(lambda: states(server, "affine") == {2: "AVAILABLE", 1: "END"})
    (models / "affine" / "3").mkdir()
    (models / "affine" / "3" / "saved_model.pb").write_bytes(b"\xffnot a model")
    until(lambda: states(server, "affine").get(3) == "END")
    _, described = server.get("/v1/models/affine/versions/3")
    (entry,) = json.loads(described)["model_version_status"]
    assert entry["status"]["error_code"] == "DATA_LOSS"
    assert entry["status"]["error_message"].endswith("as binary proto")
    assert server.post("/v1/models/affine:predict", body) == (200, b'{\n    "predictions": [3.5\n    ]\n}')


def test_the_model_config_file_is_followed_and_a_bad_one_changes_nothing(server: Server, models: Path) -> None:
    config = Path(next(flag for flag in server.flags if flag.startswith("--model_config_file=")).partition("=")[2])
    write_config(config, models, "affine", "images", "matrix")
    until(lambda: server.get("/v1/models/matrix")[0] == 200)
    config.write_text("nonsense")
    until(lambda: "Failed to poll the model config file" in server.log.read_text())
    assert server.get("/v1/models/matrix")[0] == 200
    write_config(config, models, "affine", "images")
    until(lambda: states(server, "matrix") == {1: "END"})


def test_a_reload_over_grpc_replaces_the_models(server: Server, models: Path, channel: grpc.Channel) -> None:
    def reload(*names: str) -> None:
        request = tfs.model_management_pb2.ReloadConfigRequest()
        for name in names:
            request.config.model_config_list.config.add(name=name, base_path=str(models / name), model_platform="tensorflow")
        channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")(request.SerializeToString(), timeout=60)

    reload("affine", "images", "strings")
    assert states(server, "strings") == {1: "AVAILABLE"}
    with pytest.raises(grpc.RpcError, match="absolute path"):
        request = tfs.model_management_pb2.ReloadConfigRequest()
        request.config.model_config_list.config.add(name="x", base_path="x", model_platform="tensorflow")
        channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")(request.SerializeToString(), timeout=60)
    reload("affine", "images")
    until(lambda: states(server, "strings") == {1: "END"})


def test_metrics_count_what_was_served(server: Server) -> None:
    name = b':tensorflow:serving:request_count{model_name="images",status="OK"} '

    def count() -> int:
        status, page = server.get("/metrics")
        assert status == 200
        return next((int(line.split()[-1]) for line in page.splitlines() if line.startswith(name)), 0)

    before = count()
    rest_predict(server, "images", np.ones((2, 28, 28, 1), "f4"))
    assert count() == before + 1


def test_the_log_reads_like_tensorflow_servings_and_names_the_embedded_server(server: Server) -> None:
    text = server.log.read_text()
    assert f"tfserving-embedded: Running gRPC ModelServer at 127.0.0.1:{server.port} ..." in text
    assert f"tfserving-embedded: Exporting HTTP/REST API at:localhost:{server.rest_port} ..." in text
    assert "Successfully loaded servable version {name: images version: 1}" in text
    assert "Traceback" not in text


def test_a_taken_port_is_one_clear_line(server: Server, models: Path) -> None:
    command = serverproc.command([f"--port={server.port}", "--model_name=affine", f"--model_base_path={models}/affine"])
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 255
    (line,) = done.stderr.splitlines()
    assert f"cannot listen on 127.0.0.1:{server.port} (--port): Address already in use" in line


def test_a_bad_command_line_is_one_clear_line() -> None:
    command = serverproc.command(["--model_base_path=/m", "--no_such_flag=1"])
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 255
    assert done.stderr == "tfserving-embedded: unknown argument: --no_such_flag=1 (see --help)\n"


def test_an_only_version_that_is_corrupt_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"\xffnot a model")
    server = serverproc.spawn([f"--model_base_path={tmp_path}/m", "--max_num_load_retries=0"], tmp_path)
    try:
        assert server.process.wait(timeout=DEADLINE_S) == 255
        text = server.log.read_text()
        assert "Failed to start server. Error: DATA_LOSS: Can't parse" in text
        assert "Traceback" not in text
    finally:
        serverproc.stop(server)
        server.log.unlink()


def test_it_waits_for_the_first_version_and_finishes_accepted_requests_before_it_ends(models: Path, tmp_path: Path) -> None:
    # with a batch timeout of 2 s a lone request is under way for that long, on any machine
    (tmp_path / "batching.config").write_text("max_batch_size { value: 8 } batch_timeout_micros { value: 2000000 }")
    base = tmp_path / "late"
    flags = ["--model_name=late", f"--model_base_path={base}", "--enable_batching"]
    server = serverproc.spawn([*flags, f"--batching_parameters_file={tmp_path}/batching.config"], tmp_path)
    try:
        until(lambda: "Could not find base path" in server.log.read_text())
        for port in (server.port, server.rest_port):
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0
        shutil.copytree(models / "matrix", base)
        serverproc.wait_ready(server, "late")
        channel = server.channel()
        with concurrent.futures.ThreadPoolExecutor(2) as clients:
            rows = np.ones((1, 2, 3), "f4")
            over_grpc = clients.submit(grpc_predict, channel, "late", "m", rows)
            over_rest = clients.submit(rest_predict, server, "late", rows)

            def accepted() -> bool:
                # both connections are there; a status request that comes later is answered, so theirs were read
                return _established(server) >= 2 and server.get("/v1/models/late")[0] == 200

            until(accepted)
            time.sleep(0.3)  # the bytes of the requests follow their connections
            server.process.send_signal(signal.SIGTERM)
            assert over_grpc.result(timeout=DEADLINE_S).ravel().tolist() == [2.0] * 6
            assert over_rest.result(timeout=DEADLINE_S).ravel().tolist() == [2.0] * 6
        channel.close()
        assert server.process.wait(timeout=DEADLINE_S) == 0
        assert "finishing the requests that were accepted" in server.log.read_text()
    finally:
        serverproc.stop(server)
        server.log.unlink()


def _established(server: Server) -> int:
    import psutil

    connections = psutil.Process(server.process.pid).net_connections(kind="tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED for each in connections)


def test_nothing_is_left_of_a_stopped_server(models: Path) -> None:
    flags = ["--model_name=matrix", f"--model_base_path={models}/matrix"]
    with serverproc.running(flags, models, "matrix") as server:
        pid = server.process.pid
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=DEADLINE_S) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    for port in (server.port, server.rest_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
