"""Are two sets of figures equal for practical purposes? Two one-sided tests (TOST), from raw values.

"Not significantly different" is no evidence of equality: too few values never are. TOST turns the burden round.
It claims equivalence only when the difference of the means is shown to be above -margin and below +margin, each
by a one-sided t test at level alpha (Schuirmann 1987, doi:10.1007/BF01068419), which is the same as the
(1 - 2 alpha) confidence interval lying within the margin. False claims are then at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

ALPHA = 0.05
POWER = 0.8
NEEDS_MORE = "needs more seeds"
MAX_SEEDS = 1000  # beyond it "needs more seeds" is not advice


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """The result for mean(a) - mean(b), everything in the unit of the values."""

    difference: float
    margin: float
    alpha: float
    p_value: float  # of TOST: the larger of the two one-sided ones
    p_difference: float  # two-sided, of a difference of any size
    interval: tuple[float, float]  # (1 - 2 alpha) confidence, the one that TOST compares with the margin
    degrees_of_freedom: float
    paired: bool
    num_a: int
    num_b: int
    seeds_needed: int | None  # of each, for TOST to succeed with probability 0.8 if the means are equal; None: too many
    verdict: str

    @property
    def advice(self) -> int | None:
        """How many values of each would do, when there are too few; None otherwise, and where so many would be no advice.

        `seeds_needed` supposes equal means. When as many were there already, the means are not that equal and the
        figure would mislead.
        """
        enough = self.seeds_needed is None or self.seeds_needed <= min(self.num_a, self.num_b)
        return None if enough or not self.verdict.endswith(NEEDS_MORE) else self.seeds_needed

    def to_dict(self) -> dict[str, Any]:
        """Plain data for study.json."""
        return {**asdict(self), "interval": list(self.interval), "advice": self.advice}


def tost(
    a: Sequence[float], b: Sequence[float], *, margin: float, alpha: float = ALPHA, paired: bool = False, step: float = 0.0
) -> Equivalence:
    """Test whether mean(a) and mean(b) differ by less than `margin`.

    `step` is the distance of neighbouring values where they are counts (an accuracy on n rows: 1/n). A few seeds that all count
    the same do not show that the mean is exactly there: a variance counts as at least step^2 / 4, the most that values which
    are one of two neighbours have. Without it two seeds on 128 rows are called equivalent up to 55% of the time at a difference
    as large as the margin; with rounding's own step^2 / 12 three seeds on 360 rows still are 12% of the time.

    `paired` is for values that share their randomness, a[i] with b[i] (the same split, the same weights); otherwise
    Welch's t, which allows unequal variances (Welch 1947, doi:10.1093/biomet/34.1-2.28). Raises ValueError for fewer
    than two values on a side, for pairs that do not match and for a margin that is not above 0.
    """
    from scipy.special import stdtr, stdtrit  # Student's t: its distribution function and quantiles

    if margin <= 0 or not 0 < alpha < 0.5:
        raise ValueError(f"margin {margin}, alpha {alpha}: expected a margin above 0 and alpha between 0 and 0.5")
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if min(len(first), len(second)) < 2 or (paired and len(first) != len(second)):
        raise ValueError(f"{len(first)} and {len(second)} values: expected at least 2 of each, as many of both when paired")
    difference = float(first.mean() - second.mean())
    spread = _Spread(first, second, paired=paired, step=step)
    error, freedom = spread.standard_error()
    if error == 0:  # every value of a side is the same: the difference is known exactly
        inside = abs(difference) < margin
        p_value, p_difference, low, high = float(not inside), float(difference == 0), difference, difference
    else:
        p_value = float(max(stdtr(freedom, -(difference + margin) / error), stdtr(freedom, (difference - margin) / error)))
        p_difference = float(2 * stdtr(freedom, -abs(difference) / error))
        half = float(stdtrit(freedom, 1 - alpha)) * error
        low, high = difference - half, difference + half
    return Equivalence(
        difference=difference,
        margin=margin,
        alpha=alpha,
        p_value=p_value,
        p_difference=p_difference,
        interval=(low, high),
        degrees_of_freedom=freedom,
        paired=paired,
        num_a=len(first),
        num_b=len(second),
        seeds_needed=seeds_needed(spread.of_one(), margin, alpha=alpha, paired=paired),
        verdict=_verdict(p_value, p_difference, margin, alpha),
    )


def seeds_needed(spread: float, margin: float, *, alpha: float = ALPHA, power: float = POWER, paired: bool = False) -> int | None:
    """How many values of each side show equal means to be within `margin`, with probability `power`.

    `spread` is the standard deviation of one value (of one difference when paired). Normal approximation (Julious
    2004, doi:10.1002/sim.1783, section 5), plus one value for t instead of z. None beyond MAX_SEEDS.
    """
    from scipy.special import ndtri  # quantiles of the normal distribution

    z = float(ndtri(1 - alpha) + ndtri(1 - (1 - power) / 2))
    exact = (1 if paired else 2) * (z * spread / margin) ** 2
    needed = max(2, math.ceil(exact) + 1) if exact < MAX_SEEDS else None
    return needed


class _Spread:
    """The variances of both sides (of the differences when paired), each at least what values `step` apart leave unseen."""

    def __init__(self, a: np.ndarray, b: np.ndarray, *, paired: bool, step: float) -> None:
        self.paired = paired
        self.numbers = np.array([len(a)] if paired else [len(a), len(b)])
        unseen = step**2 / 4
        # A difference of two such values has twice the variance.
        found, least = ([(a - b).var(ddof=1)], 2 * unseen) if paired else ([a.var(ddof=1), b.var(ddof=1)], unseen)
        self.variances = np.maximum(found, least)

    def standard_error(self) -> tuple[float, float]:
        """Of the difference of the means, with its degrees of freedom (Welch-Satterthwaite; n - 1 when paired)."""
        parts = self.variances / self.numbers
        total = float(parts.sum())
        if total == 0:
            return 0.0, float((self.numbers - 1).sum())
        return math.sqrt(total), total**2 / float((parts**2 / (self.numbers - 1)).sum())

    def of_one(self) -> float:
        """The standard deviation of one value (of one difference when paired)."""
        return math.sqrt(float(self.variances.mean()))


def _verdict(p_value: float, p_difference: float, margin: float, alpha: float) -> str:
    if p_value <= alpha:  # also when a difference is shown: it is one that does not matter
        return f"equivalent within {margin:g}"
    return "different" if p_difference <= alpha else f"cannot tell: {NEEDS_MORE}"
