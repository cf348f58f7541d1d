"""DEVICE=auto|cpu|cuda to the device that is really there."""

from __future__ import annotations

from faceoff.environment import gpus
from faceoff.errors import UsageError, unknown


def resolve(device: str) -> str:
    """`cpu` or `cuda`. Raises UsageError for `cuda` without an NVIDIA GPU."""
    if device not in ("auto", "cpu", "cuda"):
        raise unknown("device", device, ["auto", "cpu", "cuda"], "DEVICE")
    found = bool(gpus())
    if device == "cuda" and not found:
        raise UsageError("DEVICE=cuda: found no NVIDIA GPU (NVML); expected one; use DEVICE=cpu")
    return "cuda" if found and device != "cpu" else "cpu"
