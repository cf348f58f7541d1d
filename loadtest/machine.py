"""What the kernel says of the generator's process and of the cores: read before and after each window."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # of /proc/stat


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Counters at one moment. Times in ns; ticks are those of /proc/stat (USER_HZ, all given cores together)."""

    moment_ns: int
    cpu_ns: int  # all threads of this process
    run_queue_ns: int  # runnable, but waiting for a core: /proc/self/schedstat, field 2
    steal_ticks: int  # the hypervisor gave the core to somebody else
    total_ticks: int


def read(cores: Iterable[int]) -> Reading:
    """Read this process's counters and the ticks of `cores`."""
    steal, total = ticks(Path("/proc/stat").read_text(encoding="ascii"), cores)
    return Reading(
        moment_ns=time.monotonic_ns(),
        cpu_ns=time.process_time_ns(),
        run_queue_ns=_run_queue_ns(),
        steal_ticks=steal,
        total_ticks=total,
    )


def ticks(stat: str, cores: Iterable[int]) -> tuple[int, int]:
    """Steal and total ticks of `cores` in the text of /proc/stat (proc(5))."""
    columns = tick_columns(stat, cores)
    return columns[7], sum(columns)


def tick_columns(stat: str, cores: Iterable[int]) -> list[int]:
    """Ticks of `cores` together: user, nice, system, idle, iowait, irq, softirq, steal; guest time is inside user time."""
    wanted = {f"cpu{core}" for core in cores}
    columns = [0] * 8
    for line in stat.splitlines():
        name, *fields = line.split()
        if name in wanted:
            columns = [before + int(field) for before, field in zip(columns, fields[:8], strict=True)]
    return columns


def free_ns(stat: str, cores: Iterable[int]) -> int:
    """Time in which no program ran on `cores` together: idle, waiting for a disk or the hypervisor, interrupts."""
    _, _, _, idle, iowait, irq, softirq, steal = tick_columns(stat, cores)
    return (idle + iowait + irq + softirq + steal) * TICK_NS


def _run_queue_ns() -> int:
    try:
        return int(Path("/proc/self/schedstat").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):  # a kernel without CONFIG_SCHED_INFO
        return 0
