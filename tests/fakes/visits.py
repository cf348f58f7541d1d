"""Simulated experiments whose truth is known: servers visited several times, several figures a visit.

    experiments = visits.draw(2000, num_visits=3, ratio=1.1, seed=1)
    .venv/bin/python -m tests.fakes.visits       # the tables of docs/decisions/0018-verdict.md

A visit shifts everything it measures (a process has its own memory layout, its own neighbours): a lognormal factor, shared by the
figures of one protocol and one tuning, and one of each figure's own. Within a visit a percentile is the order statistic
of so many lognormal latencies, drawn exactly: the uniform order statistic k of n is Beta(k, n - k + 1).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import t

from faceoff import ratios

Floats = NDArray[np.float64]

REQUESTS = 1500  # a measurement of the quick profile
LATENCY_SIGMA = 0.35  # of one request's logarithm
WAYS, TUNINGS = 2, 2  # protocols; as installed and at its best
# figure -> (the visit's own standard deviation, what measuring adds), of the logarithm
FIGURES = {
    "p50": (0.02, 0.5),
    "p99": (0.04, 0.99),
    "throughput_rps": (0.02, 0.0),
    "max_qps": (0.03, 0.0),
    "cpu_us_per_request": (0.01, 0.0),
}
SHARED = 0.02  # what all figures of a visit have in common
NUM_CELLS = WAYS * TUNINGS * len(FIGURES)


@dataclass(frozen=True, kw_only=True)
class Experiments:
    """Values of shape (experiments, cells, visits): two servers in turn, and the A/A run, which visits the first once more."""

    a: Floats
    b: Floats
    again: Floats


def draw(num: int, *, num_visits: int, ratio: float = 1.0, seed: int, uneven: float = 1.0, outliers: float = 0.0) -> Experiments:
    """`num` experiments in which every figure of server a is truly `ratio` times that of b.

    `uneven` multiplies the spread of b's visits; a visit is an outlier with probability `outliers`, 30% above the others.
    """
    rng = np.random.default_rng(seed)
    a, b, again = (
        _server(rng, num, num_visits, spread=spread, outliers=outliers, factor=factor)
        for spread, factor in ((1.0, ratio), (uneven, 1.0), (1.0, ratio))
    )
    return Experiments(a=a, b=b, again=again)


def deviations(spread: float = 1.0) -> Floats:
    """The standard deviation of the logarithm of one visit's value, of each cell, for a server with that spread."""
    return np.log(_server(np.random.default_rng(0), 20_000, 1, spread=spread, outliers=0.0, factor=1.0))[..., 0].std(0)


def _server(rng: np.random.Generator, num: int, num_visits: int, *, spread: float, outliers: float, factor: float) -> Floats:
    shape = (num, WAYS * TUNINGS, num_visits)
    shared = rng.normal(0, SHARED * spread, shape) + np.log(1.3) * (rng.random(shape) < outliers)
    cells = []
    for own, fraction in FIGURES.values():
        logs = shared + rng.normal(0, own * spread, shape)
        if fraction:
            rank = math.ceil(fraction * REQUESTS)
            logs = logs + LATENCY_SIGMA * (ndtri(rng.beta(rank, REQUESTS - rank + 1, shape)) - ndtri(fraction))
        cells.append(logs)
    return factor * np.exp(np.concatenate(cells, axis=1))


def welch(a: Floats, b: Floats, confidence: float) -> tuple[Any, Any]:
    """What Faceoff uses: bounds of the log ratio."""
    difference, half = ratios.log_ratio(a, b, confidence)
    return difference - half, difference + half


def pooled(a: Floats, b: Floats, confidence: float) -> tuple[Any, Any]:
    """Student's t with one variance for both sides."""
    a, b, num = np.log(a), np.log(b), a.shape[-1]
    difference = a.mean(-1) - b.mean(-1)
    half = t.ppf((1 + confidence) / 2, 2 * num - 2) * np.sqrt((a.var(-1, ddof=1) + b.var(-1, ddof=1)) / num)
    return difference - half, difference + half


def paired(a: Floats, b: Floats, confidence: float) -> tuple[Any, Any]:
    """Student's t of the differences within each repeat."""
    differences, num = np.log(a) - np.log(b), a.shape[-1]
    half = t.ppf((1 + confidence) / 2, num - 1) * differences.std(-1, ddof=1) / np.sqrt(num)
    return differences.mean(-1) - half, differences.mean(-1) + half


def percentile_bootstrap(a: Floats, b: Floats, confidence: float) -> tuple[Any, Any]:
    """Quantiles of the difference over visits drawn with replacement."""
    a, b = _resampled(a), _resampled(b)
    low, high = np.quantile(a.mean(-1) - b.mean(-1), [(1 - confidence) / 2, (1 + confidence) / 2], axis=-1)
    return low, high


def bootstrap_t(a: Floats, b: Floats, confidence: float) -> tuple[Any, Any]:
    """As above for the studentized difference (Efron and Tibshirani, chapter 12)."""
    num, left, right = a.shape[-1], _resampled(a), _resampled(b)
    difference = np.log(a).mean(-1) - np.log(b).mean(-1)
    error = np.sqrt((np.log(a).var(-1, ddof=1) + np.log(b).var(-1, ddof=1)) / num)
    errors = np.sqrt((left.var(-1, ddof=1) + right.var(-1, ddof=1)) / num)
    with np.errstate(divide="ignore", invalid="ignore"):
        studentized = (left.mean(-1) - right.mean(-1) - difference[..., None]) / np.where(errors > 0, errors, np.nan)
    low, high = np.nanquantile(studentized, [(1 - confidence) / 2, (1 + confidence) / 2], axis=-1)
    return difference - high * error, difference - low * error


def hierarchical_bootstrap(a: Floats, b: Floats, confidence: float) -> tuple[Any, Any]:
    """Visits with replacement, and within each a p99 drawn again: what resampling its raw rows adds, here by its known spread."""
    rng = np.random.default_rng(4)
    rank = math.ceil(0.99 * REQUESTS)
    sides = []
    for values in (a, b):
        drawn = _resampled(values)
        sides.append(drawn + LATENCY_SIGMA * (ndtri(rng.beta(rank, REQUESTS - rank + 1, drawn.shape)) - ndtri(0.99)))
    low, high = np.quantile(sides[0].mean(-1) - sides[1].mean(-1), [(1 - confidence) / 2, (1 + confidence) / 2], axis=-1)
    return low, high


def _resampled(values: Floats, num: int = 1000) -> Floats:
    logs = np.log(values)
    return logs[..., np.random.default_rng(3).integers(0, logs.shape[-1], (num, logs.shape[-1]))]


METHODS: dict[str, Callable[[Floats, Floats, float], tuple[Any, Any]]] = {
    "Welch t of logs": welch,
    "pooled t of logs": pooled,
    "paired t of logs": paired,
    "percentile bootstrap": percentile_bootstrap,
    "hierarchical bootstrap": hierarchical_bootstrap,
    "bootstrap-t": bootstrap_t,
}


CONDITIONS: dict[str, dict[str, float]] = {
    "alike": {},
    "b 3 times as noisy": {"uneven": 3.0},
    "b 3 times as quiet": {"uneven": 1 / 3},
    "5% outliers": {"outliers": 0.05},
}


def methods() -> list[str]:
    """For one p99 comparison at 95%: how often each method leaves out the truth, in the best and the worst condition."""
    p99 = WAYS * TUNINGS * list(FIGURES).index("p99")
    lines = ["| method | 3 visits a side | 5 | 10 |", "|---|---|---|---|"]
    for method, bounds in METHODS.items():
        cells = []
        for num_visits in (3, 5, 10):
            wrong = []
            for how in CONDITIONS.values():
                drawn = draw(1000 if "boot" in method else 20_000, num_visits=num_visits, seed=7, **how)
                low, high = bounds(drawn.a[:, p99], drawn.b[:, p99], 0.95)
                wrong.append(np.mean((low > 0) | (high < 0)))
            cells.append(f"{min(wrong):.0%} to {max(wrong):.0%}")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def rule() -> list[str]:
    """The whole rule on experiments of `NUM_CELLS` comparisons, the noise floor from each one's own A/A run."""
    lines = [
        "| visits | servers | A/A called different | equal ones: by the interval alone | by the rule | shown equal "
        "| finds 10% | 20% | 80% |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    confidence = ratios.bonferroni(0.95, NUM_CELLS)
    for num_visits in (3, 5, 8, 10):
        for name, how in CONDITIONS.items():
            drawn = draw(20_000, num_visits=num_visits, seed=num_visits, **how)
            itself, wide = ratios.log_ratio(drawn.a, drawn.again, confidence)
            difference, half = ratios.log_ratio(drawn.a, drawn.b, confidence)
            floor = np.maximum(np.expm1(np.abs(itself) + wide), ratios.SMALLEST)
            equal = ratios.decide(difference, half, floor)
            found = [np.mean(ratios.decide(difference + np.log(truth), half, floor) == 1) for truth in (1.1, 1.2, 1.8)]
            alone = ratios.decide(difference, half)
            errors = [(abs(one) == 1).any(-1).mean() for one in (ratios.decide(itself, wide), alone, equal)]
            lines.append(
                f"| {num_visits} | {name} | {' | '.join(f'{share:.1%}' for share in errors)} "
                f"| {np.mean(equal == ratios.ABSENT):.0%} "
                f"| {' | '.join(f'{share:.0%}' for share in found)} |"
            )
    return lines


def main() -> None:
    """Print both tables."""
    sys.stdout.write("\n".join([*methods(), "", *rule()]) + "\n")


if __name__ == "__main__":
    main()
