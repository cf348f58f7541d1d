"""One measurement: its windows as they were judged, and its figures, computed from the rows on disk when it ends."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import stats
from loadtest import guard, histogram
from loadtest import rows as rows_module
from loadtest.engine_group import together
from loadtest.engine_process import WindowResult
from loadtest.guard import MeasurementFacts, WindowFacts
from loadtest.plan import Plan
from loadtest.rows import Rows
from loadtest.scenarios import BY_NAME
from loadtest.schedules import STEPS, step_of
from loadtest.targets import Target
from loadtest.watch import Use


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of one window, without its rows. `flags` are the guard's reasons against it; a flagged one may be repeated."""

    window: int
    repeat: int
    result: WindowResult  # of all engines together; its columns and answers are empty by now
    facts: WindowFacts
    flags: list[str]
    num_requests: int
    num_errors: int
    num_wrong: int
    num_waiting: int
    span_s: float
    scheduled_s: float  # from the first scheduled moment to the last
    p50_ms: float | None
    p99_ms: float | None
    use: Use  # of the server

    @property
    def throughput_rps(self) -> float:
        """Successful requests over the time from the first scheduled moment to the last answer."""
        return (self.num_requests - self.num_errors) / self.span_s if self.span_s > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the rows of all accepted windows say. Latencies in ms, from the scheduled moment; failed rows rank last."""

    latency_ms: dict[str, float | None]
    ci95_ms: dict[str, list[float]]
    send_error_p99_ms: float | None
    num_good: int  # right (or not judged), and within the SLO
    block_p50_ms: tuple[float, ...] | None
    steps: list[dict[str, Any]] | None  # scenario step: one entry a step


@dataclass(kw_only=True)
class Measurement:
    """One target in one scenario. `value` is connections or requests a second; `attempts` in the order they ran.

    `label` tells measurements of one scenario apart; `search` is how max_qps came to its rate.
    """

    target: Target
    scenario: str
    value: float
    connections: int
    samples: Path
    slo_ms: float | None = None
    label: str = ""
    load_kind: str = "rate"
    encode_us: float | None = None
    decode_us: float | None = None
    judging_us: float | None = None  # a request
    body_bytes: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    num_expected: int = 0
    aborted: str | None = None
    first_wrong: str | None = None
    search: dict[str, Any] | None = None
    capacity_rps: float | None = None
    figures: Figures | None = None
    reasons: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """E.g. torchserve-rest-json-closed-1; the number is the repeat of the whole measurement."""
        return f"{self.target.name}-{self.scenario}{self.label}-1"

    @property
    def accepted(self) -> list[Attempt]:
        """The last attempt at each window."""
        return list({attempt.window: attempt for attempt in self.attempts}.values())

    @property
    def rows(self) -> Rows:
        """The rows of the accepted windows, read from disk."""
        return rows_module.read(self.samples)

    def total(self, name: str) -> int:
        """The sum of a count of `Attempt` over the accepted windows."""
        return sum(int(getattr(attempt, name)) for attempt in self.accepted)

    @property
    def span_s(self) -> float:
        """From a window's first scheduled moment to its last answer, summed."""
        return sum(attempt.span_s for attempt in self.accepted)

    @property
    def throughput_rps(self) -> float:
        """Successful requests over `span_s`."""
        return (self.total("num_requests") - self.total("num_errors")) / self.span_s if self.span_s > 0 else 0.0

    @property
    def offered_rps(self) -> float | None:
        """The rate of the moments that were drawn, which chance makes another than the one asked for; None in a closed loop."""
        if self.load_kind != "rate":
            return None
        # n moments have n - 1 gaps between them
        gaps = sum(max(0, attempt.num_requests - 1) for attempt in self.accepted)
        scheduled_s = sum(attempt.scheduled_s for attempt in self.accepted)
        return gaps / scheduled_s if scheduled_s > 0 else None


def attempt(
    scenario: str,
    results: Sequence[WindowResult],
    parts: Sequence[Rows],
    slo_ms: float | None,
    *,
    window: int,
    repeat: int,
    use: Use,
) -> Attempt:
    """What one window comes to: of each engine its result and its rows."""
    rows = rows_module.concatenate(list(parts))
    every = [window_facts(scenario, result, mine, slo_ms) for result, mine in zip(results, parts, strict=True)]
    flags = [
        flag if len(every) == 1 else f"engine {at + 1}: {flag}" for at, f in enumerate(every) for flag in guard.window_flags(f)
    ]
    flags += guard.others_flags(use.others_percent)
    latency_ms = rows.latency_ms
    facts = guard.worst(every, stats.percentile(latency_ms, 0.5) if len(latency_ms) else None)
    return Attempt(
        window=window,
        repeat=repeat,
        result=together(results),
        facts=facts,
        flags=flags,
        num_requests=len(rows),
        num_errors=rows.num_errors,
        num_wrong=rows.num_wrong,
        num_waiting=int(np.count_nonzero(rows.wait_ns)),
        span_s=rows.span_s,
        scheduled_s=float(rows.scheduled_ns.max() - rows.scheduled_ns.min()) / 1e9 if len(rows) else 0.0,
        p50_ms=facts.p50_ms,
        p99_ms=stats.percentile(latency_ms, 0.99) if len(latency_ms) else None,
        use=use,
    )


def window_facts(scenario: str, result: WindowResult, rows: Rows, slo_ms: float | None) -> WindowFacts:
    """What the guard wants to know of a window."""
    wall_ns = max(1, result.wall_ns)
    if result.loop_lag_p99_ns is not None:
        late_p99_ms = result.loop_lag_p99_ns / 1e6
    else:
        late_p99_ms = stats.percentile(rows.send_error_ms, 0.99) if len(rows) else 0.0
    latency_ms = rows.latency_ms
    return WindowFacts(
        scenario=scenario if result.loop_lag_p99_ns is None else "closed",
        late_p99_ms=late_p99_ms,
        p50_ms=stats.percentile(latency_ms, 0.5) if len(latency_ms) else None,
        slo_ms=slo_ms,
        cpu_percent=100 * result.cpu_ns / wall_ns,
        run_queue_percent=100 * result.run_queue_ns / wall_ns,
        steal_percent=100 * result.steal_ticks / max(1, result.total_ticks),
    )


def figures(samples: Path, scenario: str, slo_ms: float | None) -> Figures:
    """Read the rows once and compute everything from them; a few bytes of memory a row, given back afterwards.

    The distribution goes beside the rows as .hgrm.
    """
    columns = rows_module.read_latencies(samples)
    latency_ms = columns.latency_ms[columns.ok]
    num, num_failed = len(latency_ms), int(np.count_nonzero(~columns.ok))
    histogram.write(samples.with_suffix(".hgrm"), latency_ms)
    blocks = None
    if BY_NAME[scenario].steady and (num_blocks := guard.num_blocks(num)) is not None:
        blocks = tuple(stats.percentile(block, 0.5) for block in np.array_split(latency_ms, num_blocks))
    good = columns.ok & columns.not_wrong
    if slo_ms is not None:
        good &= columns.latency_ms <= slo_ms
    return Figures(
        latency_ms=stats.summary(latency_ms, num_failed),
        ci95_ms=stats.intervals(latency_ms, num_failed=num_failed),
        send_error_p99_ms=stats.percentile(columns.send_error_ms, 0.99) if len(columns.send_error_ms) else None,
        num_good=int(np.count_nonzero(good)),
        block_p50_ms=blocks,
        steps=_steps(columns, slo_ms) if scenario == "step" else None,
    )


def _steps(columns: rows_module.Latencies, slo_ms: float | None) -> list[dict[str, Any]]:
    step = step_of(len(columns.latency_ms)) if len(columns.latency_ms) else np.zeros(0, dtype=np.int64)
    found = []
    for number in range(STEPS):
        mine = (step == number) & columns.ok
        latency_ms = columns.latency_ms[mine]
        within = int(np.count_nonzero(latency_ms <= slo_ms)) if slo_ms is not None else None
        found.append(
            {
                "fraction_of_rate": (1 + number) / STEPS,
                "num_requests": int(np.count_nonzero(step == number)),
                "num_within_slo": within,
                "latency_ms": stats.summary(latency_ms, int(np.count_nonzero((step == number) & ~columns.ok))),
            }
        )
    return found


def judged_facts(plan: Plan, measurement: Measurement) -> MeasurementFacts:
    """What decides whether a measurement is VALID."""
    assert measurement.figures is not None
    return MeasurementFacts(
        num_requests=measurement.total("num_requests"),
        num_expected=max(1, measurement.num_expected),
        num_errors=measurement.total("num_errors"),
        num_wrong=measurement.total("num_wrong"),
        num_waiting=measurement.total("num_waiting"),
        first_wrong=measurement.first_wrong,
        flags={attempt.window: attempt.flags for attempt in measurement.accepted if attempt.flags},
        shared_cores=plan.cores.shared,
        intruders=_intruders(plan, measurement.target),
        aborted=measurement.aborted,
        waits_are_the_load=measurement.scenario == "offline",
        rps=measurement.value if measurement.load_kind == "rate" else measurement.throughput_rps,
        capacity_rps=measurement.capacity_rps,
        block_p50_ms=measurement.figures.block_p50_ms,
    )


def _intruders(plan: Plan, target: Target) -> tuple[str, ...]:
    found = []
    for pid in target.endpoint.pids:
        try:
            allowed = os.sched_getaffinity(pid)
        except (ProcessLookupError, PermissionError):
            continue
        if not plan.cores.shared and allowed & set(plan.cores.generator):
            found.append(f"{target.endpoint.server} (pid {pid})")
    return tuple(found)
