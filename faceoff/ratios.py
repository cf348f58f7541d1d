"""The ratio of two servers' figures from repeated visits: its interval, the chance of a verdict, drift.

A *visit* is one deployment of one server and the load on it; each visit gives one value of a figure (a p99, a throughput). Two
requests of one visit have the same process, memory layout and moment in common, so the visit is what was repeated and what
is resampled, never the request (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013).

The interval is Welch's t interval of the difference of the mean logarithms. Bootstrap intervals over 3 to 5 visits leave out the
truth several times as often as they say: docs/decisions/0018-verdict.md has the simulation.

Values are arrays whose last axis is the visits; every function works over the axes before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SMALLEST = 0.01  # a noise floor is at least this
EQUAL = 0.05  # a difference below 5% is nobody's reason to choose a server: absence is shown down to this, not further
COARSEST = 0.2  # beyond this floor "no difference" would say nothing
MOST_REPEATS = 100  # what `repeats_needed` looks at
POWER = 0.8  # the chance of a verdict that a number of repeats is chosen for
_QUANTILES = 40  # of each side's variance, for the power: exact to a percent


def log_ratio(a: npt.ArrayLike, b: npt.ArrayLike, confidence: float) -> tuple[Any, Any]:
    """The difference of the mean logarithms of `a` and `b` and the half-width of its interval (Welch 1947).

    Raises ValueError for fewer than two visits on a side and for values that are not positive numbers.
    """
    from scipy.stats import t

    (mean_a, variance_a, df_a), (mean_b, variance_b, df_b) = _moments(a), _moments(b)
    error = np.sqrt(variance_a + variance_b)
    return mean_a - mean_b, t.ppf((1 + confidence) / 2, _welch(variance_a, variance_b, df_a, df_b)) * error


def bonferroni(confidence: float, num_comparisons: int) -> float:
    """The confidence of each of so many intervals for all of them together to have `confidence` (Bonferroni's inequality).

    Holm's procedure finds a little more, but gives no intervals that agree with its verdicts.
    """
    return 1 - (1 - confidence) / max(num_comparisons, 1)


def decide(difference: Any, half: Any, floor: Any = None) -> Any:
    """The rule, over arrays of log ratios: 1 the first is larger, -1 smaller, 2 no difference, 0 cannot tell.

    `half` is the half-width of the interval, `floor` the noise floor as a fraction, None where there is none.
    """
    size = np.abs(difference)
    within = _within(floor)
    found = (size > half) & (size > np.log1p(0.0 if floor is None else floor))
    return np.where(found, np.sign(difference), np.where(size + half <= within, ABSENT, 0)).astype(int)


ABSENT = 2


@dataclass(frozen=True, kw_only=True)
class Chances:
    """How probable each verdict is: a difference that is found, and its absence that is shown."""

    found: float
    absent: float

    @property
    def told(self) -> float:
        """The chance of either."""
        return self.found + self.absent


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the chances of an experiment follow from.

    `difference` is the log ratio, `deviations` the standard deviation of one visit's logarithm on each side, `floor` the noise
    floor as a fraction or None, `slack` what is added to the half-width of the interval (a logarithm).
    """

    difference: float
    deviations: tuple[float, float]
    confidence: float
    floor: float | None = None
    slack: float = 0.0


def chances(truth: Truth, num_visits: int) -> Chances:
    """How often `decide` says what, with `num_visits` a side.

    For normal logarithms the difference of the means is independent of the two sample variances, so its distribution is
    averaged over theirs (`_QUANTILES` quantiles of each chi-squared).
    """
    from scipy.stats import chi2, norm, t

    df = num_visits - 1
    spread = chi2.ppf((np.arange(_QUANTILES) + 0.5) / _QUANTILES, df) / df / num_visits
    variance_a, variance_b = spread[:, None] * truth.deviations[0] ** 2, spread[None, :] * truth.deviations[1] ** 2
    error = max(float(np.hypot(*truth.deviations)) / np.sqrt(num_visits), 1e-12)
    quantile = t.ppf((1 + truth.confidence) / 2, _welch(variance_a, variance_b, df, df))
    half = quantile * np.sqrt(variance_a + variance_b) + truth.slack
    size, within = abs(truth.difference), _within(truth.floor) - half
    found = norm.sf((np.maximum(half, np.log1p(truth.floor or 0.0)) - size) / error)
    absent = np.where(within > 0, norm.cdf((within - size) / error) - norm.cdf((-within - size) / error), 0)
    return Chances(found=float(found.mean()), absent=float(absent.mean()))


def repeats_needed(truth: Truth, num_visits: int) -> int | None:
    """The smallest number of visits a side, above `num_visits`, with a chance of `POWER` to tell; None beyond `MOST_REPEATS`.

    What was seen is taken for the truth. The floor, itself an interval's end, becomes smaller as intervals do.
    """
    from scipy.stats import t

    def told(visits: int) -> bool:
        narrower = _width(visits) / _width(num_visits)
        floor = None if truth.floor is None else max(np.expm1(np.log1p(truth.floor) * narrower), SMALLEST)
        return chances(replace(truth, floor=floor), visits).told >= POWER

    def _width(visits: int) -> float:
        return float(t.ppf((1 + truth.confidence) / 2, 2 * visits - 2) / np.sqrt(visits))

    return next((visits for visits in range(num_visits + 1, MOST_REPEATS + 1) if told(visits)), None)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far values moved from the first visit to the last, whichever server's turn it was: a factor, its 95% interval."""

    factor: float
    low: float
    high: float
    p_value: float


def drift(groups: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Drift | None:
    """The common trend of several groups of visits over the experiment; None where there are too few to say.

    Each group is one server with one setting: the order of its visits and their values. A straight line through the
    logarithms with a level for each group and one slope for all (analysis of covariance), over the span of the orders.
    """
    from scipy.stats import t

    kept = [(np.asarray(orders, float), np.log(np.asarray(values, float))) for orders, values in groups if len(values) > 1]
    df = sum(len(values) for _, values in kept) - len(kept) - 1
    if df < 1:
        return None
    x = np.concatenate([orders - orders.mean() for orders, _ in kept])
    y = np.concatenate([values - values.mean() for _, values in kept])
    if not x.any():
        return None
    slope = float(x @ y / (x @ x))
    error = float(np.sqrt(((y - slope * x) ** 2).sum() / df / (x @ x)))
    every = np.concatenate([orders for orders, _ in kept])
    span = float(every.max() - every.min())
    half = float(t.ppf(0.975, df)) * error
    p_value = float(2 * t.sf(abs(slope) / error, df)) if error > 0 else float(slope == 0)
    low, middle, high = np.exp(span * np.array([slope - half, slope, slope + half]))
    return Drift(factor=float(middle), low=float(low), high=float(high), p_value=p_value)


def _within(floor: Any) -> Any:
    """How far an interval may reach, as a logarithm, to show that there is no difference; nowhere without a fine floor."""
    if floor is None:
        return -np.inf
    return np.where(np.asarray(floor) <= COARSEST, np.log1p(np.maximum(floor, EQUAL)), -np.inf)


def _moments(values: npt.ArrayLike) -> tuple[Any, Any, int]:
    """Mean logarithm, its squared standard error, degrees of freedom."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] < 2:
        raise ValueError(f"{array.shape[-1] if array.ndim else 1} visit: expected at least 2 on each side")
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError("a ratio needs values that are positive numbers")
    logs = np.log(array)
    return logs.mean(-1), logs.var(-1, ddof=1) / array.shape[-1], array.shape[-1] - 1


def _welch(variance_a: Any, variance_b: Any, df_a: int, df_b: int) -> Any:
    """Welch and Satterthwaite's degrees of freedom of the sum of two squared standard errors; of equal ones where both are 0."""
    total = variance_a + variance_b
    weighed = variance_a**2 / df_a + variance_b**2 / df_b
    return np.where(weighed > 0, total**2 / np.where(weighed > 0, weighed, 1), df_a + df_b)
