"""The rules of max_qps: which rates are tried, when one passes, and when it stands. Nothing here measures anything.

It brackets and bisects. A rate is judged by how many of its requests are over the SLO (failed, wrong or slower): a short
window first, whose verdict counts when a binomial test at 99% confidence is sure (MLPerf LoadGen's early stopping), else
a whole one, which is cut off as soon as it cannot pass any more and otherwise speaks by its percentile. Windows of as many
requests meet the same arrivals, scaled, so that a rate that is higher is harder. The rate found is measured again with a fresh
seed, over at least `CONFIRM_SLOS`; where that refutes it, it is searched for once more below.

Near the limit a queue wanders for longer than a window lasts, so that equal p50s (the steady state of other scenarios) would ask
what no server can show. Here the SLO itself is the test: in a window of n SLOs the queue of a server that is offered more than
1 + 1/n of what it bears reaches the SLO.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loadtest.checks import MAX_REQUESTS, MAX_WINDOW_S

CONFIDENCE = 0.99
RESOLUTION = 1.01  # the bracket that is narrow enough
FEW_RESOLUTION = 1.05  # in the second of two searches of few probes, whose first comes about as near
BRACKET_FACTOR = 1.5
AGAIN_FACTOR = 1.15  # below a refuted rate, which is rarely far off
MAX_POINTS = 32
SHORT_FRACTION = 4  # the short window is a fourth of the whole one
SEARCH_SLOS = 40  # a window lasts at least so many SLOs: it refuses a rate 2.5% above what the server bears
CONFIRM_SLOS = 100  # and a confirmation so many: 1%, as near as the search came
CONFIRM_STEP = 0.98
MAX_CONFIRMATIONS = 5
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


def highest(
    passes: Callable[[float], bool],
    start: float,
    probes: int | None = None,
    *,
    below: float = math.inf,
    resolution: float = RESOLUTION,
    factor: float = BRACKET_FACTOR,
) -> float | None:
    """The highest rate that passes, within `resolution`, or the highest of `probes` rates; None when these (`MAX_POINTS` at
    most) did not find one that passes and one that fails. `below` is known to fail.
    """
    low, high, rate = 0.0, below, start
    for _ in range(min(probes or MAX_POINTS, MAX_POINTS)):
        if passes(rate):
            low = rate
        else:
            high = rate
        if low > 0 and high / low <= resolution:
            return low
        rate = low * factor if high == math.inf else high / factor if low == 0 else math.sqrt(low * high)
    return low if probes and 0 < low < high < math.inf else None


def highest_confirmed(
    passes: Callable[[float, float | None], bool],
    refuted: Callable[[float, int], bool],
    start: float,
    probes: int | None = None,
) -> tuple[float | None, float | None]:
    """The highest rate that passes, and the one that a fresh seed then did not refute; None for what was not found.

    `refuted(rate, number)` measures confirmation `number`. A server that stalls every few seconds passes in the shorter windows
    of a search far above what it bears. So a rate that is refuted is searched for once more, below it and with the arrivals and
    the length that refuted it: `passes(rate, the refuted one)`. What that finds goes down a little after each further refutation.
    """
    found = highest(lambda rate: passes(rate, None), start, probes)
    if found is None or not refuted(found, 0):
        return found, found
    near = RESOLUTION if probes is None else FEW_RESOLUTION
    rate = highest(
        lambda rate: passes(rate, found), CONFIRM_STEP**2 * found, probes, below=found, resolution=near, factor=AGAIN_FACTOR
    )
    for number in range(1, MAX_CONFIRMATIONS):
        if rate is None or not refuted(rate, number):
            break
        rate = CONFIRM_STEP**number * rate if number + 1 < MAX_CONFIRMATIONS else None
    return found, rate


def confirmation_seed(seed: int, number: int) -> int:
    """A seed that no search from the start uses."""
    return seed + _CONFIRM_SEED + number


def least(rate: float, slo_ms: float, num_slos: int) -> int:
    """The requests of so many SLOs. In a shorter window the queue of an overloaded server has no time to reach the SLO."""
    return math.ceil(num_slos * slo_ms / 1000 * rate)


def confirmation_requests(num_requests: int, rate: float, slo_ms: float) -> int:
    """The requests of a confirmation, where a window of the search has `num_requests`."""
    return min(MAX_REQUESTS, max(num_requests, least(rate, slo_ms, CONFIRM_SLOS)))


@dataclass(frozen=True, kw_only=True)
class Window:
    """How one rate of a search is measured: the seed, the requests of a whole window, and the fewest that may speak."""

    seed: int
    num_requests: int
    at_least: int


def window(
    rate: float, refuted: float | None, *, seed: int, num_requests: int, slo_ms: float, limit_s: float = MAX_WINDOW_S
) -> Window | None:
    """Of the first search (`refuted` None) or of the one below a refuted rate, whose arrivals and length are its confirmation's.

    None: a window at this rate would be longer than `limit_s` or more than `MAX_REQUESTS`; it is not one that can be found.
    """
    if refuted is None:
        at_least = least(rate, slo_ms, SEARCH_SLOS)
        found = Window(seed=seed, num_requests=max(num_requests, at_least), at_least=at_least)
    else:
        num = confirmation_requests(num_requests, refuted, slo_ms)
        found = Window(seed=confirmation_seed(seed, 0), num_requests=num, at_least=num)
    return found if found.num_requests <= min(MAX_REQUESTS, limit_s * rate) else None


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


def bracket(points: list[dict[str, Any]], confirmations: list[dict[str, Any]]) -> list[float | None]:
    """The lowest rate that failed or was refuted, and before it the highest below that which passed: as near as this came."""
    tried = [(point["rate"], point["passed"]) for point in points]
    tried += [(confirmation["rate"], not confirmation["refuted"]) for confirmation in confirmations]
    failed = min((rate for rate, passed in tried if not passed), default=math.inf)
    passed = max((rate for rate, passed in tried if passed and rate < failed), default=None)
    return [passed, None if failed == math.inf else failed]
