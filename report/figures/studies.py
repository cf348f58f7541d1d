"""Trainings of several models and modes: intervals against margins, step times and memory by mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from report import identity
from report.figures import base

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One equivalence test, everything in percentage points of accuracy."""

    label: str
    difference: float
    low: float
    high: float
    margin: float


def equivalence(tests: Sequence[Judged]) -> dict[str, Any]:
    """For each model the margin as a grey bar and the interval of the difference on it: inside is equivalent."""
    figure = go.Figure()
    labels = [base.text(test.label) for test in tests]
    for label, test in zip(labels, tests, strict=True):
        figure.add_scatter(
            x=[-test.margin, test.margin],
            y=[label, label],
            mode="lines",
            line={"color": base.NEUTRAL, "width": 18},
            opacity=0.35,
            hovertemplate=f"{label}: margin ±{test.margin:g} points<extra></extra>",
        )
        figure.add_scatter(
            x=[test.difference],
            y=[label],
            mode="markers",
            marker={"color": identity.PURPLE, "size": 9, "symbol": "diamond"},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [test.high - test.difference],
                "arrayminus": [test.difference - test.low],
                "color": identity.PURPLE,
                "thickness": 2,
            },
            hovertemplate=f"{label}: %{{x:.2f}} points, {test.low:.2f} to {test.high:.2f}<extra></extra>",
        )
    figure.add_vline(x=0, line={"color": base.NEUTRAL, "width": 1})
    figure.update_layout(
        base.layout(
            100 + 50 * len(tests),
            xaxis=base.axis("accuracy of PyTorch minus TensorFlow (percentage points)"),
            yaxis={"automargin": True, "autorange": "reversed"},
        )
    )
    return base.finish(figure)


def modes(times: Mapping[str, Values], memory: Mapping[str, Sequence[float]], frameworks: Mapping[str, str]) -> dict[str, Any]:
    """Step times of every mode as boxes on a log axis (ms); under them the peak memory of every run (MiB)."""
    figure = make_subplots(
        rows=2,
        cols=1,
        vertical_spacing=0.22,
        row_heights=[0.6, 0.4],
        subplot_titles=base.facet_titles(["Time of a step, all repeats", "Peak memory (RSS) of each run"]),
    )
    base.left_titles(figure)
    pooled = np.concatenate(list(times.values()))
    for mode, values in times.items():
        series = identity.framework(frameworks[mode])
        figure.add_box(
            x=values[base.thin(len(values), base.MAX_POINTS // len(times))],
            name=base.text(mode),
            boxpoints="all",
            jitter=0.6,
            pointpos=0,
            marker={"color": series.color, "size": 3, "opacity": 0.4, "symbol": series.symbol},
            line={"color": series.color, "width": 1.5},
            fillcolor="rgba(0,0,0,0)",
            hovertemplate=f"{base.text(mode)}: %{{x:.3g}} ms<extra></extra>",
            hoveron="points",
            row=1,
            col=1,
        )
        figure.add_scatter(
            x=list(memory[mode]),
            y=[base.text(mode)] * len(memory[mode]),
            mode="markers",
            marker=base.marker(series),
            hovertemplate=f"{base.text(mode)}: %{{x:.0f}} MiB<extra></extra>",
            row=2,
            col=1,
        )
    low, high = max(float(pooled.min()), 1e-6), max(float(pooled.max()), 1e-6)
    figure.update_xaxes({"title": base.titled("time of one step (ms)"), **base.log_ticks(low, high)}, row=1, col=1)
    figure.update_xaxes(base.axis("peak memory (MiB)", rangemode="tozero"), row=2, col=1)
    figure.update_yaxes(automargin=True, autorange="reversed")
    figure.update_layout(base.layout(200 + 90 * len(times)))
    return base.finish(figure)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of `curves`: steps or seconds against loss or accuracy."""

    series: identity.Series
    label: str
    x: Values
    y: Values
    opacity: float = 1.0


def curves(lines: Sequence[Curve], *, x: str, y: str) -> dict[str, Any]:
    """Several trainings over each other, one axis for all; `x` and `y` are the axes' titles."""
    figure = go.Figure()
    for curve in lines:
        shown = base.thin(len(curve.y), base.MAX_POINTS // len(lines))
        label = base.text(curve.label)
        figure.add_scatter(
            x=curve.x[shown],
            y=curve.y[shown],
            mode="lines" if len(curve.y) > 50 else "lines+markers",
            line=base.line(curve.series),
            marker=base.marker(curve.series),
            opacity=curve.opacity,
            name=label,
            hovertemplate=f"{label}<br>%{{x:.4~g}}: %{{y:.4~g}}<extra></extra>",
        )
    figure.update_layout(base.layout(340, xaxis=base.axis(x, rangemode="tozero"), yaxis=base.axis(y, rangemode="tozero")))
    return base.finish(figure)
