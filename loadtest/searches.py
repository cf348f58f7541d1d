"""What measures more than one load: `max_qps` finds the highest rate that meets the SLO, `sweep` walks a grid.

max_qps brackets and bisects. A rate is judged by how many of its requests are over the SLO (failed, wrong or slower): a short
window first, whose verdict counts when a binomial test at 99% confidence is sure (MLPerf LoadGen's early stopping), else
a whole one, which is cut off as soon as it cannot pass any more and otherwise speaks by its percentile. All rates meet the same
arrivals, scaled, so that one that is higher is harder. The rate found is measured again with a fresh seed, for longer.

Near the limit a queue wanders for longer than a window lasts, so that equal p50s (the steady state of other scenarios) would ask
what no server can show. Here the SLO itself is the test: in a window of n SLOs the queue of a server that is offered more than
1 + 1/n of what it bears reaches the SLO.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from faceoff import progress
from loadtest import checks, schedules
from loadtest.measurement import Measurement

if TYPE_CHECKING:
    from loadtest.measure import Session

CONFIDENCE = 0.99
RESOLUTION = 1.01  # the bracket that is narrow enough
BRACKET_FACTOR = 1.5
MAX_POINTS = 32
SHORT_FRACTION = 4  # the short window is a fourth of the whole one
START_FRACTION = 0.7  # of the closed throughput
SEARCH_SLOS = 40  # a window lasts at least so many SLOs: it refuses a rate 2.5% above what the server bears
CONFIRM_SLOS = 100  # and a confirmation so many: 1%, as near as the search came
CONFIRM_STEP = 0.98
MAX_CONFIRMATIONS = 5
SWEEP_FRACTIONS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)  # of the closed throughput
KNEE_FRACTION = 0.95  # a throughput below this part of the rate is beyond the knee
_CONFIRM_SEED = 1_000_003


def verdict(num: int, over: int, allowed: float) -> bool | None:
    """Whether a true fraction of over-SLO requests of at most `allowed` is certain (True) or excluded (False).

    One-sided binomial tests at `CONFIDENCE`. None: so many requests cannot tell.
    """
    from scipy.stats import binom

    if binom.cdf(over, num, allowed) <= 1 - CONFIDENCE:
        return True
    return False if binom.sf(over - 1, num, allowed) <= 1 - CONFIDENCE else None


def short(num_requests: int) -> int:
    """The size of the window that is tried first; at least what no over-SLO request at all is enough of."""
    return min(num_requests, max(num_requests // SHORT_FRACTION, 500))


def most_over(num_requests: int, allowed: float) -> int:
    """How many over-SLO requests the percentile can bear: the nearest rank stays within the SLO."""
    return num_requests - max(1, math.ceil(round((1 - allowed) * num_requests, 9)))


def highest(passes: Callable[[float], bool], start: float, probes: int | None = None, below: float = math.inf) -> float | None:
    """The highest rate that passes, within `RESOLUTION`, or the highest of `probes` rates; None when these (`MAX_POINTS` at
    most) did not find one that passes and one that fails. `below` is known to fail.
    """
    low, high, rate = 0.0, below, start
    for _ in range(min(probes or MAX_POINTS, MAX_POINTS)):
        if passes(rate):
            low = rate
        else:
            high = rate
        if low > 0 and high / low <= RESOLUTION:
            return low
        rate = low * BRACKET_FACTOR if high == math.inf else high / BRACKET_FACTOR if low == 0 else math.sqrt(low * high)
    return low if probes and 0 < low < high < math.inf else None


def highest_confirmed(
    passes: Callable[[float, bool], bool], refuted: Callable[[float, int], bool], start: float, probes: int | None = None
) -> tuple[float | None, float | None]:
    """The highest rate that passes, and the one that a fresh seed then did not refute; None for what was not found.

    A server that stalls every few seconds passes in the shorter windows of a search far above what it bears. So a rate that is
    refuted (`refuted(rate, number)` measures confirmation `number`) is searched for once more, below it and with the arrivals and
    the length that refuted it: `passes(rate, again)`. What that finds goes down a little after each further refutation.
    """
    found = highest(lambda rate: passes(rate, False), start, probes)
    if found is None or not refuted(found, 0):
        return found, found
    rate = highest(lambda rate: passes(rate, True), CONFIRM_STEP**2 * found, probes, below=found)
    for number in range(1, MAX_CONFIRMATIONS):
        if rate is None or not refuted(rate, number):
            break
        rate = CONFIRM_STEP**number * rate if number + 1 < MAX_CONFIRMATIONS else None
    return found, rate


def confirmation_seed(seed: int, number: int) -> int:
    """A seed that no search from the start uses."""
    return seed + _CONFIRM_SEED + number


def again_with(seed: int, again: bool) -> tuple[int, int]:
    """The seed of a search and the SLOs that its windows last at least; `again`: those of the confirmation that refuted it."""
    return (confirmation_seed(seed, 0), CONFIRM_SLOS) if again else (seed, SEARCH_SLOS)


def least(rate: float, slo_ms: float, num_slos: int) -> int:
    """The requests of so many SLOs. In a shorter window the queue of an overloaded server has no time to reach the SLO."""
    return math.ceil(num_slos * slo_ms / 1000 * rate)


def judged(
    over_of: Callable[[int, int | None], int], num_requests: int, allowed: float, at_least: int = 1
) -> tuple[bool, str, int, int]:
    """Judge one rate: whether it passes, by what, and the window's requests and over-SLO count that said so.

    `over_of(num, limit)` measures a window of `num` requests, which may end once more than `limit` are over.
    No window has fewer than `at_least`.
    """
    num_requests = max(num_requests, at_least)
    first = max(short(num_requests), at_least)
    if first < num_requests:
        over = over_of(first, most_over(num_requests, allowed))
        sure = verdict(first, over, allowed)
        if sure is not None:
            return sure, "binomial", first, over
    limit = most_over(num_requests, allowed)
    over = over_of(num_requests, limit)
    return over <= limit, "percentile", num_requests, over


@dataclass(kw_only=True)
class _Search:
    """The points of one search, in order."""

    session: Session
    scratch: Measurement
    allowed: float
    num_requests: int
    until: float = 0.0
    points: list[dict[str, Any]] = field(default_factory=list)

    def passes(self, rate: float, again: bool) -> bool:
        """Measure one rate. Raises TimeoutError when the time for the search is over."""
        if time.monotonic() > self.until:
            raise TimeoutError
        plan, flags = self.session.plan, []
        seed, slos = again_with(plan.options.seed, again)

        def over_of(num: int, limit: int | None) -> int:
            schedule = schedules.make(
                seed=seed,
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

        found, by, num, over = judged(over_of, self.num_requests, self.allowed, least(rate, plan.slo_ms, slos))
        point = {"rate": rate, "passed": found, "by": by, "num_requests": num, "num_over": over, "flags": flags}
        self.points.append(point)
        progress.say(f"max_qps: {rate:.1f} req/s {'passes' if found else 'fails'} ({over} of {num} over the SLO, {by})")
        return found


def max_qps(session: Session) -> Generator[Measurement, None, None]:
    """Search, then confirm with a fresh seed; the confirmation is the measurement."""
    plan = session.plan
    start = START_FRACTION * session.closed_rps or plan.rate or 0.0  # closed's throughput, where it was measured, knows best
    allowed = 1 - plan.options.percentile / 100
    fewest = checks.LEAST_EACH * plan.options.engines  # every engine has its share of them
    search = _Search(
        session=session,
        scratch=session.prepare("max_qps", start),
        allowed=allowed,
        num_requests=max(fewest, plan.num_requests if plan.duration_s is None else round(start * plan.duration_s)),
        until=time.monotonic() + plan.search_s,
    )
    record: dict[str, Any] = {
        "slo_ms": plan.slo_ms,
        "percentile": plan.options.percentile,
        "found": None,
        "max_qps": None,
        "confirmed": False,
        "confirmations": [],
        "bracket": [None, None],
        "points": search.points,
    }
    measurement: Measurement | None = None

    def refuted(rate: float, number: int) -> bool:
        nonlocal measurement
        if number == 0:
            record["found"] = rate
        measurement = session.prepare("max_qps", rate)
        measurement.search = record
        num_requests = max(search.num_requests, least(rate, plan.slo_ms, CONFIRM_SLOS))
        session.measured(measurement, seed=confirmation_seed(plan.options.seed, number), one_piece=num_requests)
        assert measurement.figures is not None
        num = max(1, measurement.num_expected)
        over = num - measurement.figures.num_good
        found = verdict(num, over, allowed) is False
        flags = [flag for attempt in measurement.accepted for flag in attempt.flags]
        record["confirmations"].append({"rate": rate, "num_requests": num, "num_over": over, "refuted": found, "flags": flags})
        return found

    rate, late = None, ""
    try:
        if start > 0:
            _, rate = highest_confirmed(search.passes, refuted, start, plan.options.probes)
    except TimeoutError:
        late = f"search: it did not end within {plan.search_s:.0f} s"
    record["confirmed"] = rate is not None
    record["bracket"] = bracket(search.points, record["confirmations"])
    if measurement is None:  # nothing was there to confirm
        measurement = session.prepare("max_qps", start)
        measurement.aborted = late or "search: no rate was found that meets the SLO beside one that does not"
        measurement.search = record
        session.measured(measurement)
    else:
        guard = [reason for reason in measurement.reasons if not reason.startswith("search:")]
        measurement.reasons = [*guard, *([late] if late else []), *reasons(measurement)]
    if not measurement.reasons:
        record["max_qps"] = rate
    yield measurement


def bracket(points: list[dict[str, Any]], confirmations: list[dict[str, Any]]) -> list[float | None]:
    """The lowest rate that failed or was refuted, and before it the highest below that which passed: as near as this came."""
    tried = [(point["rate"], point["passed"]) for point in points]
    tried += [(confirmation["rate"], not confirmation["refuted"]) for confirmation in confirmations]
    failed = min((rate for rate, passed in tried if not passed), default=math.inf)
    passed = max((rate for rate, passed in tried if passed and rate < failed), default=None)
    return [passed, None if failed == math.inf else failed]


def reasons(measurement: Measurement) -> list[str]:
    """What a search adds to the guard's reasons."""
    record = measurement.search
    if record is None or record["found"] is None:
        return []
    found = []
    # The last confirmation is the measurement itself, and its flags are among the guard's reasons.
    measured = [*record["points"], *record["confirmations"][:-1]]
    flagged = [one for one in measured if one["flags"]]
    if flagged:
        found.append(
            f"search: {len(flagged)} of {len(measured)} rates stayed flagged, first {flagged[0]['rate']:.1f} "
            f"requests/s: {flagged[0]['flags'][0]}"
        )
    if not record["confirmed"]:
        found.append(f"search: none of {len(record['confirmations'])} rates stood when it was measured again with a fresh seed")
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
