"""Waiting for the machine to come to rest before a window, within a budget.

Other work and the hypervisor come in bursts. A window that starts in one is flagged and lost, so the driver looks at
the idle machine first: no request of ours is under way then, so whatever keeps the generator's core busy, or is taken
from any core, is somebody else's. Waiting changes no limit and hides nothing: the guard judges the window all the same,
and a machine that never comes to rest is measured as it is when the budget is spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from loadtest.machine import tick_columns

SAMPLE_S = 0.25
CALM_SAMPLES = 2  # in a row
MAX_STEAL = 0.02  # of all cores' time: the guard's own limit
MAX_BUSY = 0.1  # of the generator's core; the driver itself needs a little
MAX_WAIT_S = 10.0  # before one window
BUDGET_S = 60.0  # of one run

Read = Callable[[], str]


class Calm:
    """Waits before windows; `waited_s` is the whole time spent so far."""

    def __init__(
        self,
        *,
        generator: Iterable[int],
        servers: Iterable[int],
        read: Read = lambda: Path("/proc/stat").read_text(encoding="ascii"),
        sleep: Callable[[float], None] = time.sleep,
        budget_s: float = BUDGET_S,
    ) -> None:
        self._generator = tuple(generator)
        self._all = tuple({*self._generator, *servers})
        self._read, self._sleep = read, sleep
        self._budget_s, self.waited_s = budget_s, 0.0

    def wait(self) -> float:
        """Return when the machine is at rest or the wait is used up; the seconds this took."""
        waited, calm = 0.0, 0
        while calm < CALM_SAMPLES and waited < MAX_WAIT_S and self.waited_s < self._budget_s:
            calm = calm + 1 if self._sample() else 0
            waited += SAMPLE_S
            self.waited_s += SAMPLE_S
        return waited

    def _sample(self) -> bool:
        before = self._read()
        self._sleep(SAMPLE_S)
        after = self._read()
        everywhere, generator = (
            [b - a for a, b in zip(tick_columns(before, cores), tick_columns(after, cores), strict=True)]
            for cores in (self._all, self._generator)
        )
        busy = sum(generator) - generator[3] - generator[4]  # all but idle and waiting for a disk
        return everywhere[7] <= MAX_STEAL * sum(everywhere) and busy <= MAX_BUSY * sum(generator)
