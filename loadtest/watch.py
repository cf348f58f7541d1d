"""What the server under test uses and says of itself in a window, and what others used of its cores: read before the first
request and after the last answer.

CPU time is the kernel's clock of each of its processes (clock_getcpuclockid(3)), to the nanosecond and with the threads that have
ended; times in the server are its own metrics (serving/metrics.py). What cannot be read is None: an endpoint of a user's
own has neither.

What its cores did beside it is not in the server's figures but in its latencies, and the generator's guard does not see it: other
programs there are the cores' busy time less the server's and that of what it started meanwhile (TorchServe runs a program each
minute that collects metrics). Idle time comes in ticks (10 ms), of which each core may be short of two, so that many are given:
the share is of what was others' for certain, and says little of windows shorter than a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError
from loadtest.machine import TICK_NS, free_ns
from serving.metrics import ServerMetrics

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: the clock id of a process is (~pid << 3) | CPUCLOCK_SCHED


@dataclass(kw_only=True)
class Use:
    """One window. `rss_bytes` is that of all its processes at the end, `others_percent` of the servers' cores' time."""

    cpu_ns: int | None = None
    rss_bytes: int | None = None
    metrics: ServerMetrics | None = None
    others_percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class Total:
    """Several windows: CPU a request in microseconds, the largest RSS in bytes and others' share, mean times in ms."""

    cpu_us_per_request: float | None
    rss_bytes: int | None
    others_percent: float | None
    queue_ms: float | None
    compute_ms: float | None


@contextmanager
def window(endpoint: Endpoint, generator: Iterable[int]) -> Iterator[Use]:
    """Fill in the `Use` when the block has ended. `generator`: its cores, which are none of the server's."""
    use = Use()
    before, pids = _metrics(endpoint), _tree(endpoint.pids)
    cores = _allowed(pids) - set(generator)
    moment, free, children, started = time.monotonic_ns(), _free_ns(cores), _children_ns(pids), _cpu_ns(pids)
    yield use
    ended, children_ns = _cpu_ns(pids), _children_ns(pids) - children
    wall_ns, free_ns = time.monotonic_ns() - moment, _free_ns(cores) - free
    if started is not None and ended is not None:
        use.cpu_ns = ended - started
        use.others_percent = others_percent(wall_ns, free_ns, use.cpu_ns + children_ns, len(cores))
    use.rss_bytes = _rss_bytes(pids)
    after = _metrics(endpoint)
    use.metrics = None if before is None or after is None else after.since(before)


def others_percent(wall_ns: int, free_ns: int, server_ns: int, num_cores: int) -> float | None:
    """At least this part of the cores' time was other programs'; `free_ns` is of all cores together. None without cores."""
    all_ns = wall_ns * num_cores
    others_ns = all_ns - free_ns - server_ns - 2 * TICK_NS * num_cores
    return 100 * max(0, others_ns) / all_ns if all_ns > 0 else None


def total(uses: Sequence[Use], num_requests: int) -> Total:
    """Sum up windows that had `num_requests` together; a figure that one of them lacks is None."""
    names = ("cpu_ns", "rss_bytes", "metrics", "others_percent")
    cpu_ns, rss, metrics, others = ([getattr(use, name) for use in uses] for name in names)
    known = all(value is not None for value in cpu_ns) and num_requests > 0
    added = _added(metrics) if metrics and None not in metrics else ServerMetrics()
    return Total(
        cpu_us_per_request=sum(cpu_ns) / num_requests / 1000 if known else None,
        rss_bytes=max((value for value in rss if value is not None), default=None),
        others_percent=max((value for value in others if value is not None), default=None),
        queue_ms=added.queue_ms,
        compute_ms=added.compute_ms,
    )


def _added(metrics: Iterable[ServerMetrics]) -> ServerMetrics:
    columns = [asdict(one) for one in metrics]
    values = {name: [column[name] for column in columns] for name in columns[0]}
    return ServerMetrics(**{name: None if None in found else sum(found) for name, found in values.items()})


def _metrics(endpoint: Endpoint) -> ServerMetrics | None:
    if endpoint.metrics_url is None:
        return None
    from serving.servers import server_class

    try:
        return server_class(endpoint.server).metrics(endpoint)
    except FaceoffError:
        return None


def _tree(pids: Iterable[int]) -> list[int]:
    import psutil

    found = []
    for pid in pids:
        try:
            found += [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        except psutil.NoSuchProcess:
            continue
    return found


def _allowed(pids: Iterable[int]) -> set[int]:
    """The cores on which any of them may run."""
    found: set[int] = set()
    for pid in pids:
        with suppress(OSError):
            found |= os.sched_getaffinity(pid)
    return found


def _cpu_ns(pids: Sequence[int]) -> int | None:
    """None when there is none, or one is gone: its time is lost."""
    try:
        return sum(time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids) if pids else None
    except OSError:
        return None


def _free_ns(cores: Iterable[int]) -> int:
    return free_ns(Path("/proc/stat").read_text(encoding="ascii"), cores)


def _children_ns(pids: Sequence[int]) -> int:
    """CPU time of children that are none of `pids`: of the ended ones as their parents know it, of those that still run."""
    import psutil

    ended = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            ended += times.children_user + times.children_system
    new = [pid for pid in _tree(pids) if pid not in pids]
    return round(ended * 1e9) + (_cpu_ns(new) or 0)


def _rss_bytes(pids: Sequence[int]) -> int | None:
    import psutil

    try:
        return sum(psutil.Process(pid).memory_info().rss for pid in pids) if pids else None
    except psutil.Error:
        return None
