import dataclasses
import json
import os
import socket
import sys

import numpy as np
import pytest

from faceoff import processes
from faceoff.endpoints import nowhere
from faceoff.errors import FaceoffError, UsageError
from faceoff.signature import image_classifier
from serving.deploy import resolve
from serving.lifecycle import Job, Launch, Served, choose_ports
from serving.servers import torchserve
from serving.servers.tfserving import TfServing, find_model_server
from serving.servers.torchserve import TorchServe


def test_a_taken_port_is_named_with_what_to_do():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} \(rest\) is in use.*PORTS=free"):
            choose_ports({"rest": port}, "standard")


def test_free_ports_are_different_and_standard_ones_are_kept():
    chosen = choose_ports({"a": 1, "b": 1, "c": 1}, "free")
    assert len(set(chosen.values())) == 3
    port = chosen["a"]
    assert choose_ports({"a": port}, "standard") == {"a": port}
    with pytest.raises(UsageError, match="PORTS="):
        choose_ports({}, "any")


def test_tfserving_is_the_real_one_where_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("TENSORFLOW_MODEL_SERVER", raising=False)
    assert find_model_server() is None
    assert resolve("torchserve,tfserving") == ["torchserve", "tfserving-embedded"]
    assert "not TensorFlow Serving's" in capsys.readouterr().err
    with pytest.raises(UsageError, match="TENSORFLOW_MODEL_SERVER=<path> or on PATH"):
        TfServing.check()
    program = tmp_path / "tensorflow_model_server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_model_server() == program
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("TENSORFLOW_MODEL_SERVER", str(other))
    assert find_model_server() == other
    assert resolve("tfserving") == ["tfserving"]
    monkeypatch.setenv("TENSORFLOW_MODEL_SERVER", str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="no executable file there"):
        resolve("tfserving")


@pytest.mark.parametrize("servers", ["", "torchserve,torchserve", "tfserving,tfserving-embedded", "triton"])
def test_servers_are_known_and_different(servers, monkeypatch):
    monkeypatch.delenv("TENSORFLOW_MODEL_SERVER", raising=False)
    with pytest.raises(UsageError, match="SERVERS"):
        resolve(servers)


def test_a_missing_or_broken_java_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"no working Java at .*JAVA_HOME names it"):
        TorchServe.check()
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\nexit 7\n")
    java.chmod(0o755)
    with pytest.raises(UsageError, match="exit code 7"):
        TorchServe.check()
    monkeypatch.delenv("JAVA_HOME")
    TorchServe.check()


def job(tmp_path, **changes):
    served = [
        Served(
            model=model,
            version=version,
            artifact=tmp_path / model,
            export_sha256="0",
            signature=image_classifier((2, 2, 1), 3),
            precision="float32",
            tolerance=1e-4,
        )
        for model in ("cnn", "lstm")
        for version in (1, 2)
    ]
    return Job(
        served=tuple(served),
        artifact_format="mar-eager",
        settings={**TorchServe.settings("tuned"), **changes},
        cores=(0,),
        device="cpu",
        workdir=tmp_path / "work",
    )


def test_torchserve_serves_several_models_and_versions_by_name(tmp_path):
    ports = {use: 9000 + index for index, use in enumerate(TorchServe.standard_ports)}
    text = TorchServe(job(tmp_path, properties={"netty_client_threads": 3}), ports).properties()
    lines = dict(line.split("=", 1) for line in text.splitlines())
    assert lines["load_models"] == "cnn-1.mar,cnn-2.mar,lstm-1.mar,lstm-2.mar"
    models = json.loads(lines["models"])
    assert [(m, v, about["marName"], about["defaultVersion"]) for m, vs in models.items() for v, about in vs.items()] == [
        ("cnn", "1", "cnn-1.mar", False),
        ("cnn", "2", "cnn-2.mar", True),
        ("lstm", "1", "lstm-1.mar", False),
        ("lstm", "2", "lstm-2.mar", True),
    ]
    assert lines["netty_client_threads"] == "3"
    assert not {"max_request_size", "max_response_size"} & lines.keys()
    assert all(lines[f"{name}_address"].startswith("http://127.0.0.1:") for name in ("inference", "management", "metrics"))


def test_torchserve_takes_the_largest_golden_batch_of_large_images(tmp_path):
    ports = {use: 9000 + index for index, use in enumerate(TorchServe.standard_ports)}
    large = dataclasses.replace(job(tmp_path).served[0], signature=image_classifier((224, 224, 3), 1000))
    several = dataclasses.replace(job(tmp_path), served=(*job(tmp_path).served, large))
    lines = dict(line.split("=", 1) for line in TorchServe(several, ports).properties().splitlines())
    numbers = np.full((64, 224, 224, 3), -1.1754943508222875e-38)  # as long as a JSON number of a float32 gets
    assert int(lines["max_request_size"]) >= len(json.dumps({"images": numbers[:1].tolist()})) * 64
    assert "max_response_size" not in lines  # 64 rows of a thousand numbers are within the limit as installed


def test_an_allocator_is_preloaded_where_it_is_found_and_recorded_either_way(tmp_path, monkeypatch):
    ports = {use: 9000 + index for index, use in enumerate(TorchServe.standard_ports)}
    for found in ("libjemalloc.so.2", None):
        monkeypatch.setattr(torchserve, "find_library", lambda name, found=found: found)
        server = TorchServe(dataclasses.replace(job(tmp_path, allocator="jemalloc"), workdir=tmp_path / str(found)), ports)
        server.job.workdir.mkdir()
        launch = server.launch()
        launch.temporary.rmdir()
        assert launch.env.get("LD_PRELOAD", "").split()[:1] == ([found] if found else [])
        endpoint = server.endpoint(server.job.served[0])
        assert (endpoint.settings["allocator"], endpoint.settings["allocator_library"]) == ("jemalloc", found)


def test_workers_sockets_fit_their_limit_wherever_the_artifacts_lie(tmp_path, monkeypatch):
    folder = torchserve.temporary_folder()
    folder.rmdir()
    assert len(str(folder / ".ts.sock.65535")) <= 107
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(torchserve.tempfile, "tempdir", str(long))
    with pytest.raises(UsageError, match=r"TMPDIR=.*too long for TorchServe's sockets; expected one like /tmp"):
        torchserve.temporary_folder()
    assert not list(long.iterdir())


def test_the_life_of_a_server_ends_with_its_process_whatever_it_does(tmp_path):
    class Sleeper(TorchServe):
        name = "sleeper"
        code = "import time; time.sleep(600)"

        def launch(self):
            return Launch(argv=[sys.executable, "-c", self.code])

        @classmethod
        def is_ready(cls, endpoint):
            return False

    ports = {use: 9000 + index for index, use in enumerate(TorchServe.standard_ports)}
    server = Sleeper(job(tmp_path), ports)
    owned = server.start()
    with pytest.raises(FaceoffError, match=r"did not answer for cnn version 1, .* within 0 s"):
        server.wait_ready(0.3)
    server.stop()
    server.stop()
    assert not owned.alive()
    server.code = "raise OSError('no room')"
    server.start()
    with pytest.raises(FaceoffError, match=r"ended with exit code 1 while starting.*OSError: no room"):
        server.wait_ready(60)
    server.stop()


def test_a_start_that_is_not_on_record_yet_is_stopped_all_the_same(tmp_path, monkeypatch):
    class Sleeper(TorchServe):
        def launch(self):
            return Launch(argv=[sys.executable, "-c", "import time; time.sleep(600)"])

    server = Sleeper(job(tmp_path), {})
    monkeypatch.setattr(processes, "started", lambda pid: 1 / 0)  # between the start and what is returned of it
    with pytest.raises(ZeroDivisionError):
        server.start()
    assert server.process.poll() is None
    server.stop()
    assert server.process.poll() is not None


@pytest.mark.parametrize(("container", "pids", "threads"), [(None, (os.getpid(),), 7), ("faceoff-torchserve-1", (), None)])
def test_a_containers_process_numbers_are_not_looked_up_here(monkeypatch, container, pids, threads):
    worker = {"status": "READY", "pid": os.getpid()}
    answer = [{"workers": [worker], "batchSize": 1, "maxBatchDelay": 100}]  # TorchServe's describe-model
    monkeypatch.setattr(torchserve, "get_json", lambda url: answer)
    monkeypatch.setattr(torchserve.running, "environment", lambda pid: {"OMP_NUM_THREADS": "7"})
    endpoint = dataclasses.replace(nowhere("torchserve", "cnn", 1), container=container)
    found = TorchServe.compute(endpoint)
    assert (found.instances, found.pids, found.intra_op_threads) == (1, pids, threads)
