import pytest

from faceoff import devices, environment
from faceoff.errors import UsageError


def with_gpus(monkeypatch, found):
    monkeypatch.setattr(devices, "gpus", lambda: found)


def test_auto_takes_the_gpu_that_is_there(monkeypatch):
    with_gpus(monkeypatch, [{"name": "x"}])
    assert (devices.resolve("auto"), devices.resolve("cpu"), devices.resolve("cuda")) == ("cuda", "cpu", "cuda")


def test_without_one_cuda_is_the_users_mistake(monkeypatch):
    with_gpus(monkeypatch, [])
    assert (devices.resolve("auto"), devices.resolve("cpu")) == ("cpu", "cpu")
    with pytest.raises(UsageError, match="found no NVIDIA GPU"):
        devices.resolve("cuda")
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        devices.resolve("tpu")


def test_the_record_says_machine_system_and_packages():
    record = environment.record()
    assert record["machine"]["usable_cores"] >= 1
    assert record["machine"]["memory_bytes"] > 1e9
    assert record["packages"]["torch"].startswith("2.13.0")
    assert record["system"]["python"].startswith("3.11")
