"""What NVML says becomes the record and the device; NVML is a fake where there is no GPU."""

from types import SimpleNamespace

import pynvml
import pytest

from faceoff import devices, environment


@pytest.fixture
def two_gpus(monkeypatch):
    calls = []
    fakes = {
        "nvmlInit": lambda: calls.append("init"),
        "nvmlShutdown": lambda: calls.append("shutdown"),
        "nvmlSystemGetDriverVersion": lambda: "580.95",
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=(handle + 1) * 2**30),
        "nvmlDeviceGetName": lambda handle: f"GPU {handle}",
    }
    for name, fake in fakes.items():
        assert hasattr(pynvml, name)  # the real one has such a function
        monkeypatch.setattr(pynvml, name, fake)
    return calls


def test_every_gpu_is_on_record_and_nvml_is_left_again(two_gpus):
    assert environment.gpus() == [
        {"name": "GPU 0", "memory_bytes": 2**30, "driver": "580.95"},
        {"name": "GPU 1", "memory_bytes": 2**31, "driver": "580.95"},
    ]
    assert two_gpus == ["init", "shutdown"]


def test_a_gpu_is_taken_unless_cpu_is_asked_for(two_gpus):
    assert [devices.resolve(asked) for asked in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


def test_no_driver_is_no_gpu(monkeypatch):
    def no_driver():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert environment.gpus() == []
