"""Percentiles of raw latencies with their intervals, and what a sample is too small to say.

The definitions are faceoff.stats' (nearest rank, order-statistic interval); this module adds what a page needs:
the curve through all percentiles and the smallest sample that supports one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceoff import stats

Floats = NDArray[np.float64]

LEVELS = stats.PERCENTILES
TAIL = 0.025  # each side of a 95% interval


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """One percentile in ms with its 95% interval; without one where the sample is too small to give both ends."""

    name: str
    level: float
    value_ms: float
    low_ms: float | None
    high_ms: float | None

    @property
    def supported(self) -> bool:
        """Whether this many samples can say anything about this percentile."""
        return self.low_ms is not None

    @property
    def label(self) -> str:
        """`p99_9` -> `p99.9`."""
        return self.name.replace("_", ".")


def needed(level: float) -> int:
    """How many samples a percentile needs for its 95% interval to have both ends: p99 368, p99.9 3,688."""
    return math.ceil(math.log(TAIL) / math.log(max(level, 1 - level)))


def all_of(values: Floats, num_failed: int = 0) -> tuple[Percentile, ...]:
    """Every percentile of LEVELS but those that fall among the failed; () for no values."""
    found, stated = [], stats.summary(values, num_failed)
    for name, level in LEVELS.items():
        low, high = stats.interval(values, level, num_failed=num_failed) or (None, None)
        if (value := stated[name]) is not None:
            found.append(Percentile(name=name, level=level, value_ms=value, low_ms=low, high_ms=high))
    return tuple(found)


def contradictions(values: Floats, stated: dict[str, float | None], num_failed: int = 0) -> list[str]:
    """Where a summary says something else than its raw rows, beyond the rounding of a written number."""
    found = []
    for name, value in stats.summary(values, num_failed).items():
        claim = stated.get(name)
        if claim is None:
            continue
        if value is None:
            found.append(f"{name.replace('_', '.')} is {claim:g} ms, its raw rows have none: too many failed")
        elif abs(claim - value) > max(1e-3, 5e-4 * value):
            found.append(f"{name.replace('_', '.')} is {claim:g} ms, its raw rows say {value:.6g} ms")
    return found


def curve(ordered: Floats, num_failed: int = 0) -> tuple[Floats, Floats, int]:
    """The percentile curve of ascending values: levels, latencies, and how many of the points the sample supports.

    The points are denser towards the tail; the last is the largest value, drawn at level 1 - 1/n, or where the failed begin.
    """
    num = len(ordered) + num_failed
    top = min(1 - 1 / max(num, 2), len(ordered) / num)
    tail = 1 - np.logspace(0, math.log10(1 - top), 240)[1:-1]
    levels = np.unique(np.concatenate([[0.0], tail, [level for level in LEVELS.values() if level < top], [top]]))
    ranks = np.clip(np.ceil(np.round(levels * num, 9)).astype(np.int64), 1, len(ordered))
    values = ordered[ranks - 1]
    values[-1] = ordered[-1]
    supported = int(np.searchsorted(levels, TAIL ** (1 / num), side="right"))
    return levels, values, max(supported, 1)
