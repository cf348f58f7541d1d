"""What the server under test uses and says of itself in a window: read before the first request and after the last answer.

CPU time is the kernel's clock of each of its processes (clock_getcpuclockid(3)), to the nanosecond and with the threads that have
ended; times in the server are its own metrics (serving/metrics.py). What cannot be read is None: an endpoint of a user's
own has neither.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError
from serving.metrics import ServerMetrics

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: the clock id of a process is (~pid << 3) | CPUCLOCK_SCHED


@dataclass(kw_only=True)
class Use:
    """One window. `rss_bytes` is that of all its processes at the end."""

    cpu_ns: int | None = None
    rss_bytes: int | None = None
    metrics: ServerMetrics | None = None


@dataclass(frozen=True, kw_only=True)
class Total:
    """Several windows: CPU a request in microseconds, the largest RSS in bytes, mean times in ms."""

    cpu_us_per_request: float | None
    rss_bytes: int | None
    queue_ms: float | None
    compute_ms: float | None


@contextmanager
def window(endpoint: Endpoint) -> Iterator[Use]:
    """Fill in the `Use` when the block has ended."""
    use = Use()
    before, pids = _metrics(endpoint), _tree(endpoint.pids)
    started = _cpu_ns(pids)
    yield use
    ended = _cpu_ns(pids)
    use.cpu_ns = None if started is None or ended is None else ended - started
    use.rss_bytes = _rss_bytes(pids)
    after = _metrics(endpoint)
    use.metrics = None if before is None or after is None else after.since(before)


def total(uses: Sequence[Use], num_requests: int) -> Total:
    """Sum up windows that had `num_requests` together; a figure that one of them lacks is None."""
    cpu_ns, rss, metrics = ([getattr(use, name) for use in uses] for name in ("cpu_ns", "rss_bytes", "metrics"))
    known = all(value is not None for value in cpu_ns) and num_requests > 0
    added = _added(metrics) if metrics and None not in metrics else ServerMetrics()
    return Total(
        cpu_us_per_request=sum(cpu_ns) / num_requests / 1000 if known else None,
        rss_bytes=max((value for value in rss if value is not None), default=None),
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


def _cpu_ns(pids: Sequence[int]) -> int | None:
    """None when there is none, or one is gone: its time is lost."""
    try:
        return sum(time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids) if pids else None
    except OSError:
        return None


def _rss_bytes(pids: Sequence[int]) -> int | None:
    import psutil

    try:
        return sum(psutil.Process(pid).memory_info().rss for pid in pids) if pids else None
    except psutil.Error:
        return None
