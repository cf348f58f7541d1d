"""Percentiles and their confidence intervals from raw values: the only place where either is computed.

A percentile is the nearest rank: the smallest value that at least the fraction q of all values does not
exceed. It is always a value that was measured, and it is what an order-statistic interval speaks about. What failed has no
value and is still one of all: `num_failed` of them rank behind every value, and a percentile that falls among them is none.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}


def percentile(values: Values, fraction: float) -> float:
    """The nearest-rank percentile, `fraction` in (0, 1]. Raises ValueError for no values or a fraction outside."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}: expected more than 0 and at most 1")
    if len(values) == 0:
        raise ValueError("a percentile of no values")
    rank = _rank(len(values), fraction)
    return float(np.partition(values, rank - 1)[rank - 1])


def interval(values: Values, fraction: float, confidence: float = 0.95, num_failed: int = 0) -> tuple[float, float] | None:
    """The order-statistic confidence interval of a percentile; None where so few values, or so many failures, allow none.

    The number of values below the true percentile is binomial(n, fraction) whatever the distribution, so
    two order statistics enclose it with at least `confidence`, (1 - confidence) / 2 on each side (Hahn and
    Meeker, Statistical Intervals, 1991, section 5.2). It assumes independent values: latencies that queue
    behind each other are correlated, and then the true interval is wider.
    """
    from scipy.stats import binom

    num = len(values) + num_failed
    if num == 0:
        return None
    tail = (1 - confidence) / 2
    low, high = int(binom.ppf(tail, num, fraction)), int(binom.ppf(1 - tail, num, fraction)) + 1
    if low < 1 or high > len(values):
        return None
    ordered = np.partition(values, [low - 1, high - 1])
    return float(ordered[low - 1]), float(ordered[high - 1])


def summary(values: Values, num_failed: int = 0) -> dict[str, float | None]:
    """Every percentile of `PERCENTILES`, and mean and max of `values`, in their unit; all None for no values."""
    if len(values) == 0:
        return dict.fromkeys([*PERCENTILES, "mean", "max"])
    ordered = np.sort(values)
    ranks = {name: _rank(len(ordered) + num_failed, fraction) for name, fraction in PERCENTILES.items()}
    found = {name: float(ordered[rank - 1]) if rank <= len(ordered) else None for name, rank in ranks.items()}
    return {**found, "mean": float(ordered.mean()), "max": float(ordered[-1])}


def intervals(values: Values, confidence: float = 0.95, num_failed: int = 0) -> dict[str, list[float]]:
    """`interval` of every percentile of `PERCENTILES`; one that has none is left out."""
    found = {name: interval(values, fraction, confidence, num_failed) for name, fraction in PERCENTILES.items()}
    return {name: [*bounds] for name, bounds in found.items() if bounds is not None}


def _rank(num: int, fraction: float) -> int:
    # 0.99 * 100 is 99.00000000000001 in floating point, and its ceiling is not the rank that is meant
    return max(1, min(num, math.ceil(round(fraction * num, 9))))
