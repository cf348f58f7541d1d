"""Energy of the GPUs, where NVML counts it (Volta and later). Of a CPU nothing is said: RAPL needs root."""

from __future__ import annotations


def gpu_joules() -> float | None:
    """What all GPUs have used since their driver was loaded; None without a GPU or without a counter."""
    import pynvml  # the module of nvidia-ml-py

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        millijoules = [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles]
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return sum(millijoules) / 1e3 if millijoules else None


def used(before: float | None, after: float | None) -> float | None:
    """The difference, or None where either is not known."""
    return None if before is None or after is None else after - before
