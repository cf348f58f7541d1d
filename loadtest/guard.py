"""The generator's guard: whether a window, and a measurement of windows, may be believed.

The limits are those of docs/method.md. They are never relaxed: on a machine that is too noisy the result is INVALID.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadtest.scenarios import BY_NAME

MIN_LATE_MS = 0.5
LATE_FRACTION = 0.05  # of the SLO or of p50, whichever is smaller
MAX_CPU_PERCENT = 70.0
MAX_RUN_QUEUE_PERCENT = 5.0
MAX_STEAL_PERCENT = 2.0
MAX_OTHERS_PERCENT = 5.0  # of the servers' cores' time
MAX_WAITING_FRACTION = 0.01
MAX_ERROR_FRACTION = 0.001
MAX_CAPACITY_FRACTION = 0.5  # of what the engine can send to a null server
STABLE_BLOCK = 2000  # requests: the p50 of fewer has too much noise of its own
STABLE_BLOCKS = 3  # in a row
MAX_BLOCKS = 10
STABLE_RATIO = 1.1


@dataclass(frozen=True, kw_only=True)
class WindowFacts:
    """What is known of one window. Percentages are of one core's time, steal of all cores' time.

    `late_p99_ms` is the send error of an open loop, the lag of the engine's own event loop of a closed one.
    """

    scenario: str
    late_p99_ms: float
    p50_ms: float | None
    slo_ms: float | None
    cpu_percent: float
    run_queue_percent: float
    steal_percent: float

    @property
    def late_limit_ms(self) -> float:
        """How late the generator may be at the 99th percentile."""
        known = [value for value in (self.p50_ms, self.slo_ms) if value is not None]
        return max(MIN_LATE_MS, LATE_FRACTION * min(known)) if known else MIN_LATE_MS


@dataclass(frozen=True, kw_only=True)
class MeasurementFacts:
    """What is known of one measurement: counts over its accepted windows, and the flags no repeat got rid of."""

    num_requests: int
    num_expected: int
    num_errors: int
    num_wrong: int
    num_waiting: int  # rows that waited for a free connection
    first_wrong: str | None
    flags: dict[int, list[str]]  # window number: reasons that stayed
    shared_cores: bool
    intruders: tuple[str, ...] = ()  # servers that may run on the generator's core
    aborted: str | None = None
    waits_are_the_load: bool = False  # offline: everything waits for a connection
    rps: float = 0.0  # the load: the rate asked for, or the throughput reached in a closed loop
    capacity_rps: float | None = None  # None: not calibrated
    block_p50_ms: tuple[float, ...] | None = None  # None: stability is not judged


def window_flags(facts: WindowFacts) -> list[str]:
    """Why a window must be repeated; [] for one that may stand."""
    late = "the generator sent" if not BY_NAME[facts.scenario].closed else "the generator's event loop ran"
    checks = (
        (facts.late_p99_ms, facts.late_limit_ms, late + " {found:.2f} ms late at p99, limit {limit:.2f} ms"),
        (facts.cpu_percent, MAX_CPU_PERCENT, "the generator used {found:.0f}% of its core, limit {limit:.0f}%"),
        (
            facts.run_queue_percent,
            MAX_RUN_QUEUE_PERCENT,
            "the generator waited for its core {found:.1f}% of the time, limit {limit:.0f}%",
        ),
        (facts.steal_percent, MAX_STEAL_PERCENT, "the hypervisor took {found:.1f}% of the cores' time, limit {limit:.0f}%"),
    )
    # `not <=` so that a NaN is a flag
    return [text.format(found=found, limit=limit) for found, limit, text in checks if not found <= limit]


def others_flags(others_percent: float | None) -> list[str]:
    """As `window_flags`, for what other programs used of the servers' cores in the window; None where nobody knows."""
    if others_percent is None or others_percent <= MAX_OTHERS_PERCENT:
        return []
    return [f"other programs used {others_percent:.0f}% of the servers' cores, limit {MAX_OTHERS_PERCENT:.0f}%"]


def worst(every: Sequence[WindowFacts], p50_ms: float | None) -> WindowFacts:
    """Of several engines in one window: of each figure the worst, for the record. Each was judged on its own."""
    names = ("late_p99_ms", "cpu_percent", "run_queue_percent", "steal_percent")
    return replace(every[0], p50_ms=p50_ms, **{name: max(getattr(facts, name) for facts in every) for name in names})


def invalid_reasons(facts: MeasurementFacts) -> list[str]:
    """Why a measurement must not be believed, in whole sentences; [] for one that is VALID."""
    reasons = []
    if facts.aborted:
        reasons.append(facts.aborted)
    if facts.shared_cores:
        reasons.append("cores: servers and generator share the only core, so every latency holds the generator's own work")
    reasons += [f"cores: {intruder} may run on the generator's core" for intruder in facts.intruders]
    if facts.num_wrong:
        reasons.append(f"{facts.num_wrong} of {facts.num_requests} answers were wrong (first: {facts.first_wrong})")
    most_errors = math.floor(facts.num_requests * MAX_ERROR_FRACTION)
    if facts.num_errors > most_errors:
        reasons.append(
            f"{facts.num_errors} of {facts.num_requests} requests failed, limit {most_errors} ({100 * MAX_ERROR_FRACTION:g}%)"
        )
    if facts.num_requests < facts.num_expected:
        reasons.append(f"only {facts.num_requests} requests were measured, expected {facts.num_expected}")
    most_waiting = math.floor(facts.num_requests * MAX_WAITING_FRACTION)
    if facts.num_waiting > most_waiting and not facts.waits_are_the_load:
        reasons.append(
            f"connections: {facts.num_waiting} of {facts.num_requests} requests waited for a free connection, limit "
            f"{most_waiting} ({100 * MAX_WAITING_FRACTION:g}%)"
        )
    if facts.capacity_rps is not None and facts.rps > MAX_CAPACITY_FRACTION * facts.capacity_rps:
        reasons.append(
            f"capacity: {facts.rps:.0f} requests/s are more than half of the {facts.capacity_rps:.0f} that the generator can "
            "send to a null server"
        )
    if facts.block_p50_ms is not None and stable_from(facts.block_p50_ms) is None:
        blocks = ", ".join(f"{value:.3g}" for value in facts.block_p50_ms)
        reasons.append(
            f"steady state: no {STABLE_BLOCKS} windows in a row have p50s within {100 * (STABLE_RATIO - 1):.0f}% (ms: {blocks})"
        )
    for window, flags in facts.flags.items():
        reasons.append(f"window {window} stayed flagged through its repeats: {'; '.join(flags)}")
    return reasons


def stable_from(block_p50_ms: Sequence[float]) -> int | None:
    """The first of `STABLE_BLOCKS` blocks in a row whose p50s lie within 10% of each other; None when there are none."""
    for start in range(len(block_p50_ms) - STABLE_BLOCKS + 1):
        some = block_p50_ms[start : start + STABLE_BLOCKS]
        if max(some) <= STABLE_RATIO * min(some):
            return start
    return None


def num_blocks(num_requests: int) -> int | None:
    """Into how many equal windows a measurement is cut to judge its stability; None when it is too short for that."""
    blocks = min(MAX_BLOCKS, num_requests // STABLE_BLOCK)
    return blocks if blocks >= STABLE_BLOCKS else None
