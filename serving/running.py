"""What a running server is, read from the server itself and from /proc: what a fairness check may believe.

    server_class(endpoint.server).running(endpoint) -> Running

Nothing here is taken from what deploy asked for, but the count of warm-up requests, which deploy itself sent. A server
that does not tell leaves None: unknown, never a guess.

| what               | TorchServe                            | TensorFlow Serving           | tfserving-embedded            |
|--------------------|---------------------------------------|------------------------------|-------------------------------|
| instances, batches | management API                        | flags and files of /proc     | its monitoring page           |
| intra-op threads   | OMP_NUM_THREADS of the worker (/proc) | flags of /proc               | its monitoring page           |
| artifact           | management API, model store of /proc  | model file of /proc          | model file of /proc           |
| all else           | /proc of the processes that compute   | /proc                        | /proc                         |
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from faceoff.errors import FaceoffError

# What changes how fast a server computes and is not in its settings. Of the process as it was started: proc(5).
ENVIRONMENT = (
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "KMP_AFFINITY", "KMP_BLOCKTIME", "MKL_NUM_THREADS"),
    *("OPENBLAS_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS", "TF_XLA_FLAGS", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NVIDIA_TF32_OVERRIDE", "CUDA_VISIBLE_DEVICES", "LD_PRELOAD"),
    *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TF_ENABLE_AUTO_MIXED_PRECISION"),
    *("MALLOC_ARENA_MAX", "MALLOC_CONF", "GLIBC_TUNABLES"),
)
ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What computes one model version, as the server tells it; None where it does not."""

    pids: tuple[int, ...] = ()  # the processes that hold the model
    artifact: str | None = None  # where on this machine the model was loaded from, links followed; None in a container
    instances: int | None = None  # copies of the model that are ready
    intra_op_threads: int | None = None  # threads that one computation may use
    inter_op_threads: int | None = None
    batching: str | None = None  # none | natural (what waits while the model is busy) | timed (up to a delay)
    max_batch: int | None = None  # the largest number of `batch_unit` that one computation is made for
    batch_unit: str | None = None  # requests | rows
    max_batch_delay_ms: float | None = None  # the longest a request waits for others


@dataclass(frozen=True, kw_only=True)
class Running:
    """One deployed model version as it runs now. Processes are those of the whole server, unless it says otherwise."""

    server: str
    model: str
    version: int
    pids: tuple[int, ...]
    cores: tuple[int, ...]  # that any of its threads may run on
    num_threads: int  # that exist now
    cpu_s: float  # user and system, so far
    rss_bytes: int
    compute: Compute
    compute_threads: int  # that exist now in the processes that compute
    allocator: str  # of the processes that compute: glibc, jemalloc, ...; several with + between
    environment: dict[str, str] = field(default_factory=dict)  # of the first process that computes: ENVIRONMENT, where set
    warmup_requests: int = 0  # that deploy sent to this version and got answers for


def tree(pid: int) -> tuple[int, ...]:
    """A process and its descendants. Raises FaceoffError when it has gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        return (pid, *(child.pid for child in process.children(recursive=True)))
    except psutil.NoSuchProcess as error:
        raise FaceoffError(f"process {pid} has ended; run: make status") from error


def cores(pids: Iterable[int]) -> tuple[int, ...]:
    """Every core that a thread of these processes may run on."""
    found: set[int] = set()
    for pid in pids:
        for task in _tasks(pid):
            try:
                found |= os.sched_getaffinity(task)
            except ProcessLookupError:
                continue
    return tuple(sorted(found))


def num_threads(pids: Iterable[int]) -> int:
    """How many threads these processes have now."""
    return sum(len(_tasks(pid)) for pid in pids)


def usage(pids: Iterable[int]) -> tuple[float, int]:
    """CPU seconds so far and resident bytes of these processes; those that have gone count nothing."""
    import psutil

    cpu_s, rss = 0.0, 0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu_s, rss = cpu_s + times.user + times.system, rss + process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return cpu_s, rss


def environment(pid: int) -> dict[str, str]:
    """Those of ENVIRONMENT that the process was started with. Raises FaceoffError for another user's process."""
    words = _read(pid, "environ").split("\0")
    found = dict(word.split("=", 1) for word in words if "=" in word)
    return {name: found[name] for name in ENVIRONMENT if name in found}


def allocator(pids: Iterable[int]) -> str:
    """Which malloc is mapped into these processes. Raises FaceoffError for another user's process."""
    found = set()
    for pid in pids:
        libraries = {line.rsplit("/", 1)[-1] for line in _read(pid, "maps").splitlines() if ".so" in line}
        found.add(next((name for name in ALLOCATORS if any(f"lib{name}" in library for library in libraries)), "glibc"))
    return "+".join(sorted(found))


def command_line(pid: int) -> list[str]:
    """The words the process was started with; [] when it has gone."""
    return _read(pid, "cmdline").split("\0")[:-1]


def _tasks(pid: int) -> list[int]:
    try:
        return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    except PermissionError as error:  # a container's process that runs as another user
        raise FaceoffError(f"process {pid} is another user's: its {name} in /proc may not be read") from error
