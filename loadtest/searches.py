"""What measures more than one load: `max_qps` finds the highest rate that meets the SLO, `sweep` walks a grid.

The rules of max_qps are in loadtest/search_rules.py; here they meet a server.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from faceoff import progress
from loadtest import checks, schedules
from loadtest import search_rules as rules
from loadtest.measurement import Measurement

if TYPE_CHECKING:
    from loadtest.measure import Session

START_FRACTION = 0.7  # of the closed throughput
SWEEP_FRACTIONS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)  # of the closed throughput
KNEE_FRACTION = 0.95  # a throughput below this part of the rate is beyond the knee


@dataclass(kw_only=True)
class _Search:
    """One search: its points and confirmations in order. The last confirmation is the measurement."""

    session: Session
    scratch: Measurement
    allowed: float  # the fraction of requests that may be over the SLO
    num_requests: int
    until: float
    points: list[dict[str, Any]] = field(default_factory=list)
    confirmations: list[dict[str, Any]] = field(default_factory=list)
    measurement: Measurement | None = None

    def passes(self, rate: float, refuted: float | None) -> bool:
        """Measure one rate, of the search below `refuted` where that is a rate. Raises TimeoutError when the time is over."""
        self._in_time()
        plan, flags = self.session.plan, []
        window = rules.window(
            rate,
            refuted,
            seed=plan.options.seed,
            num_requests=self.num_requests,
            slo_ms=plan.slo_ms,
            limit_s=checks.MAX_WINDOW_S if plan.duration_s is None else math.inf,  # a length of the user's is the user's
        )
        if window is None:
            progress.say(f"max_qps: {rate:.3g} req/s is not tried, a window would be too long")
            return False

        def over_of(num: int, limit: int | None) -> int:
            schedule = schedules.make(
                seed=window.seed,
                scenario="max_qps",
                window=0,
                num_requests=num,
                num_payloads=self.session.num_payloads,
                rate=rate,
            )
            slo_ns = round(plan.slo_ms * 1e6)
            attempt, rows = self.session.window(
                self.scratch, schedule, len(self.points), limit=None if limit is None else (slo_ns, limit)
            )
            flags.extend(attempt.flags)
            late = (rows.done_ns - rows.scheduled_ns) > slo_ns
            return int(np.count_nonzero(~rows.ok | (rows.correct == 0) | late))

        passed, by, num, over = rules.judged(over_of, window.num_requests, self.allowed, window.at_least)
        point = {"rate": rate, "passed": passed, "by": by, "num_requests": num, "num_over": over, "flags": flags}
        self.points.append({**point, "below_refuted": refuted is not None})
        progress.say(f"max_qps: {rate:.1f} req/s {'passes' if passed else 'fails'} ({over} of {num} over the SLO, {by})")
        return passed

    def refuted(self, rate: float, number: int) -> bool:
        """Measure a rate again with a fresh seed. Raises TimeoutError when the time is over, for the first never."""
        if number:
            self._in_time()
        plan = self.session.plan
        self.measurement = measurement = self.session.prepare("max_qps", rate)
        num_requests = rules.confirmation_requests(self.num_requests, rate, plan.slo_ms)
        self.session.measured(measurement, seed=rules.confirmation_seed(plan.options.seed, number), one_piece=num_requests)
        assert measurement.figures is not None
        num = max(1, measurement.num_expected)
        over = num - measurement.figures.num_good
        refuted = rules.verdict(num, over, self.allowed) is False
        flags = [flag for attempt in measurement.accepted for flag in attempt.flags]
        point = {"rate": rate, "num_requests": num, "num_over": over, "refuted": refuted, "flags": flags}
        self.confirmations.append(point)
        progress.say(f"max_qps: {rate:.1f} req/s {'is refuted' if refuted else 'stands'} ({over} of {num} over the SLO)")
        return refuted

    def _in_time(self) -> None:
        if time.monotonic() > self.until:
            raise TimeoutError

    def record(self, rate: float | None) -> dict[str, Any]:
        """What the summary says of it; `rate` is the one that stood."""
        return {
            "slo_ms": self.session.plan.slo_ms,
            "percentile": self.session.plan.options.percentile,
            "found": self.confirmations[0]["rate"] if self.confirmations else None,
            "max_qps": None,
            "confirmed": rate is not None,
            "confirmations": self.confirmations,
            "bracket": rules.bracket(self.points, self.confirmations),
            "points": self.points,
        }


def max_qps(session: Session) -> Generator[Measurement, None, None]:
    """Search, then confirm with a fresh seed; the last confirmation is the measurement."""
    plan = session.plan
    start = START_FRACTION * session.closed_rps or plan.rate or 0.0  # closed's throughput, where it was measured, knows best
    fewest = checks.LEAST_EACH * plan.options.engines  # every engine has its share of them
    search = _Search(
        session=session,
        scratch=session.prepare("max_qps", start),
        allowed=1 - plan.options.percentile / 100,
        num_requests=max(fewest, plan.num_requests if plan.duration_s is None else round(start * plan.duration_s)),
        until=time.monotonic() + plan.search_s,
    )
    rate, late = None, ""
    try:
        if start > 0:
            _, rate = rules.highest_confirmed(search.passes, search.refuted, start, plan.options.probes)
    except TimeoutError:
        late = f"search: it did not end within {plan.search_s:.0f} s"
    measurement = search.measurement
    if measurement is None:  # nothing was there to confirm
        measurement = session.prepare("max_qps", start)
        measurement.aborted = late or "search: no rate was found that meets the SLO beside one that does not"
        session.measured(measurement)
    elif late:
        measurement.reasons.append(late)
    measurement.search = record = search.record(rate)
    measurement.reasons += reasons(record)
    if not measurement.reasons:
        record["max_qps"] = rate
    yield measurement


def reasons(record: dict[str, Any]) -> list[str]:
    """What a search adds to the guard's reasons against its last confirmation."""
    confirmations = record["confirmations"]
    if not confirmations:
        return []
    found = []
    # The last confirmation is the measurement itself, and its flags are among the guard's reasons.
    measured = [*record["points"], *confirmations[:-1]]
    flagged = [one for one in measured if one["flags"]]
    if flagged:
        found.append(
            f"search: {len(flagged)} of {len(measured)} rates stayed flagged, first {flagged[0]['rate']:.1f} "
            f"requests/s: {flagged[0]['flags'][0]}"
        )
    if not record["confirmed"]:
        lower = len(confirmations) - 1
        also = f"so did {lower} lower" if lower else "no lower rate was found that meets it"
        found.append(f"search: {confirmations[0]['rate']:.1f} requests/s missed the SLO with a fresh seed, and {also}")
    return found


def sweep(session: Session) -> Generator[Measurement, None, None]:
    """One measurement a point. A grid of our own ends behind the second point beyond the knee."""
    plan = session.plan
    if plan.options.sweep_connections or (not plan.sweep and plan.rate is None and session.closed_rps <= 0):
        for value in plan.sweep or checks.sweep_connections(plan.profile, plan.options.engines):
            yield session.measured(session.prepare("sweep", 0.0, label=f"-c{value:.0f}", connections=int(value)))
        return
    full = plan.rate if plan.rate is not None else session.closed_rps
    rates = plan.sweep or tuple(fraction * full for fraction in SWEEP_FRACTIONS)
    beyond = 0
    for number, rate in enumerate(rates):
        measurement = session.measured(session.prepare("sweep", rate, label=f"-{number + 1}"))
        yield measurement
        beyond += measurement.throughput_rps < KNEE_FRACTION * (measurement.offered_rps or rate)
        if beyond >= 2 and not plan.sweep:
            return
