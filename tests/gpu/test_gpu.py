"""On an NVIDIA GPU: `make gpu-check`. Where the work really ran is asked of NVML and the records, never of our own options."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from faceoff import endpoints, environment
from faceoff.store import Store
from tests.conftest import roots, run_module

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

SERVERS = "torchserve,tfserving-embedded"


@pytest.fixture(scope="module")
def exported_on_gpu(tmp_path_factory: pytest.TempPathFactory) -> Store:
    if not environment.gpus():
        pytest.skip("no NVIDIA GPU")
    root = tmp_path_factory.mktemp("gpu")
    store = Store(artifacts=root / "artifacts", results=root / "results")
    for module, options in (("training.train", ("--device", "cuda")), ("export.export", ()), ("export.verify", ())):
        done = run_module(module, *options, *roots(store), timeout_s=900)
        assert done.code == 0, done.stderr[-3000:]
    return store


@pytest.fixture(scope="module")
def deployed_on_gpu(exported_on_gpu: Store) -> Iterator[Store]:
    options = ("--device", "cuda", "--servers", SERVERS, "--ports", "free")
    try:
        done = run_module("serving.deploy", *options, *roots(exported_on_gpu), timeout_s=900)
        assert done.code == 0, done.stderr[-3000:]
        yield exported_on_gpu
    finally:
        run_module("serving.undeploy", *roots(exported_on_gpu))


def test_training_and_export_on_the_gpu(exported_on_gpu):
    record = json.loads((exported_on_gpu.model_dir("cnn") / "manifest.json").read_text())
    assert record["config"]["device"] == "cuda"
    assert record["environment"]["machine"]["gpus"]


def test_both_servers_hold_the_model_on_the_gpu_and_pass_parity(deployed_on_gpu):
    """By NVML: a process of each server computes on the GPU. Parity over every protocol was part of deploy."""
    found = endpoints.read(deployed_on_gpu)
    assert {e.device for e in found} == {"cuda"}
    users = gpu_processes()
    for endpoint in found:
        family = {endpoint.pids[0], *(child.pid for child in psutil.Process(endpoint.pids[0]).children(recursive=True))}
        assert family & users, f"no process of {endpoint.server} is on the GPU"


def test_the_gpu_is_in_the_results(deployed_on_gpu):
    options = ("--scenarios", "closed", "--protocols", "rest", "--duration", "2", "--run", "gpu")
    done = run_module("loadtest.run", *options, *roots(deployed_on_gpu), timeout_s=900)
    assert done.code in (0, 3), done.stderr[-3000:]
    summary = json.loads((deployed_on_gpu.run_dir("gpu") / "summary.json").read_text())
    assert summary["environment"]["machine"]["gpus"] == environment.gpus()
    assert all(m["num_wrong"] == 0 for m in summary["measurements"])


def test_compose_serves_from_the_gpu(exported_on_gpu):
    docker = os.environ.get("DOCKER", "docker")
    if shutil.which(docker) is None:
        pytest.skip("no Docker")
    info = subprocess.run([docker, "info", "--format", "{{json .Runtimes}}"], capture_output=True, text=True, check=False)
    if "nvidia" not in info.stdout:
        pytest.skip("Docker has no NVIDIA runtime")
    options = ("--target", "compose", "--device", "cuda", "--servers", SERVERS, "--ports", "free")
    try:
        done = run_module("serving.deploy", *options, *roots(exported_on_gpu), timeout_s=1700)
        assert done.code == 0, done.stderr[-3000:]
        assert {e.device for e in endpoints.read(exported_on_gpu)} == {"cuda"}
        assert gpu_processes()
    finally:
        run_module("serving.undeploy", *roots(exported_on_gpu))


def gpu_processes() -> set[int]:
    """Pids that compute on any GPU, by NVML."""
    import pynvml

    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return {process.pid for handle in handles for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    finally:
        pynvml.nvmlShutdown()
