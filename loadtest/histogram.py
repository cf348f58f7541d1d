"""Latency distributions as .hgrm, the text that HdrHistogram's tools plot (percentile distribution, values in ms).

Each value is a measured one (nearest rank), not the middle of a bucket. Percentiles follow HdrHistogram's iterator: five
ticks for each halving of the distance to 100%.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TICKS = 5  # for each halving of the distance to 100%


def write(path: Path, latency_ms: npt.NDArray[Any]) -> None:
    """Write the distribution of `latency_ms`."""
    path.write_text(text(latency_ms), encoding="ascii")


def text(latency_ms: npt.NDArray[Any]) -> str:
    """The file's content; only the footer for no values."""
    ordered = np.sort(latency_ms)
    num = len(ordered)
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    for fraction in _fractions(num):
        rank = max(1, math.ceil(round(fraction * num, 9)))
        inverse = f"{1 / (1 - fraction):>14.2f}" if fraction < 1 else f"{'inf':>14}"
        lines.append(f"{ordered[rank - 1]:>12.3f} {fraction:>14.12f} {rank:>10} {inverse}")
    mean, deviation, most = (float(ordered.mean()), float(ordered.std()), float(ordered[-1])) if num else (0.0, 0.0, 0.0)
    lines.append(f"#[Mean    = {mean:>12.3f}, StdDeviation   = {deviation:>12.3f}]")
    lines.append(f"#[Max     = {most:>12.3f}, Total count    = {num:>12}]")
    return "\n".join(lines) + "\n"


def _fractions(num: int) -> list[float]:
    if not num:
        return []
    found, at = [], 0.0
    while 1 - at > 1 / num:
        found.append(at)
        halvings = math.floor(math.log2(1 / (1 - at))) + 1
        at += 1 / (TICKS * 2**halvings)
    return [*found, 1.0]
