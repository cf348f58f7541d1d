"""Everything random about a window, drawn from its seed before the clock starts.

A window's seed depends on the run's seed, the scenario and the window's number, not on the server or the protocol:
every server meets the same order of inputs and, scaled to its rate, the same arrivals. A repeated window repeats them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loadtest.scenarios import NAMES as SCENARIOS

_WARM_UP = 0  # the first word that tells streams apart; scenarios follow
STEPS = 5
RAMP_FROM = 0.1  # of the rate
BURST_S, BURST_PERIOD_S = 0.2, 1.0

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`order[i]` is the payload of request i; `offsets_ns[i]` its moment after the start, None in a closed loop."""

    order: Ints
    offsets_ns: Ints | None

    @property
    def duration_s(self) -> float:
        """Until the last scheduled request."""
        return 0.0 if self.offsets_ns is None else float(self.offsets_ns[-1]) / 1e9

    @property
    def at_once(self) -> bool:
        """Whether everything is due at the first moment (`offline`), so that waiting for a connection is the load itself."""
        return self.offsets_ns is not None and len(self.order) > 1 and not self.offsets_ns.any()


def make(
    *,
    seed: int,
    scenario: str,
    window: int,
    num_requests: int,
    num_payloads: int,
    rate: float | None,
    trace_ns: Ints | None = None,
) -> Schedule:
    """The schedule of one window. `rate` is the mean requests a second (the highest of `step` and `ramp`), None where
    the scenario has none; `trace_ns` the moments that `trace` replays.
    """
    words = [seed, 1 + SCENARIOS.index(scenario), window]
    generator, order = _start(words, num_requests, num_payloads)
    if scenario == "trace":
        assert trace_ns is not None
        return Schedule(order=order, offsets_ns=trace_ns)
    if scenario == "offline":
        return Schedule(order=order, offsets_ns=np.zeros(num_requests, dtype=np.int64))
    if rate is None:
        return Schedule(order=order, offsets_ns=None)
    if scenario == "constant":
        offsets = np.round(np.arange(num_requests) * (1e9 / rate)).astype(np.int64)
        return Schedule(order=order, offsets_ns=offsets)
    gaps = generator.standard_exponential(num_requests)
    shape = _SHAPES.get(scenario)
    if shape is None:
        offsets = np.cumsum(np.round(gaps / rate * 1e9)).astype(np.int64)
    else:
        offsets = np.round(shape(np.cumsum(gaps), rate) * 1e9).astype(np.int64)
    return Schedule(order=order, offsets_ns=offsets)


def warm_up(*, seed: int, num_requests: int, num_payloads: int, rate: float | None = None) -> Schedule:
    """A schedule whose rows are thrown away; every payload comes up once before any comes again."""
    generator, _ = _start([seed, _WARM_UP], num_requests, num_payloads)
    offsets = None
    if rate is not None:
        offsets = np.cumsum(np.round(generator.standard_exponential(num_requests) / rate * 1e9)).astype(np.int64)
    return Schedule(order=np.arange(num_requests, dtype=np.int64) % num_payloads, offsets_ns=offsets)


def shares(schedule: Schedule, num: int) -> list[Schedule]:
    """`schedule` divided among `num` engines, each request in exactly one share; no share is empty.

    An open schedule is thinned: each request goes to an engine drawn at random, which leaves Poisson arrivals Poisson. A closed
    one, and one that is too short for chance, is dealt out in turn. Raises ValueError for fewer requests than engines.
    """
    total = len(schedule.order)
    if num == 1:
        return [schedule]
    if total < num:
        raise ValueError(f"{total} requests for {num} engines")
    owner = np.arange(total, dtype=np.int64) % num
    if schedule.offsets_ns is not None:
        drawn = np.random.Generator(np.random.PCG64([total, num])).integers(0, num, total)
        owner = drawn if len(np.unique(drawn)) == num else owner
    found = []
    for mine in (owner == at for at in range(num)):
        offsets = None if schedule.offsets_ns is None else schedule.offsets_ns[mine]
        found.append(Schedule(order=schedule.order[mine], offsets_ns=offsets))
    return found


def step_of(num_requests: int) -> Ints:
    """Which of `step`'s equal counts a request belongs to, counted from 0."""
    return np.arange(num_requests, dtype=np.int64) * STEPS // num_requests


def _start(words: list[int], num_requests: int, num_payloads: int) -> tuple[np.random.Generator, Ints]:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
    return generator, generator.integers(0, num_payloads, num_requests, dtype=np.int64)


# A Poisson process whose rate changes is one of rate 1 on a stretched clock (the inverse of the expected count):
# each function maps the expected count so far (no unit) to seconds.
def _step(counts: Floats, rate: float) -> Floats:
    gaps = np.diff(counts, prepend=0.0)
    level = (1 + step_of(len(counts))) / STEPS
    return np.cumsum(gaps / (rate * level))


def _ramp(counts: Floats, rate: float) -> Floats:
    # From a = RAMP_FROM * rate to rate over T: a t + (rate - a) t^2 / 2T = count, and T is such that all fit.
    low = RAMP_FROM * rate
    total_s = 2 * counts[-1] / (low + rate)
    slope = (rate - low) / total_s
    return np.asarray((np.sqrt(low**2 + 2 * slope * counts) - low) / slope)


def _burst(counts: Floats, rate: float) -> Floats:
    # The mean is `rate`: silence but for BURST_S of every period.
    busy_s = counts / (rate * BURST_PERIOD_S / BURST_S)
    return np.asarray(busy_s // BURST_S * BURST_PERIOD_S + busy_s % BURST_S)


_SHAPES: dict[str, Callable[[Floats, float], Floats]] = {"step": _step, "ramp": _ramp, "burst": _burst}
