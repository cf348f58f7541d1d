"""The two trainings over each other: loss, distance between the losses, time of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from report import identity
from report.figures import base

Values = NDArray[np.float64]


def losses(curves: Mapping[str, Values], apart: float) -> dict[str, Any]:
    """Both loss curves; under them how far apart they are, on a log axis with the line beyond which they count as parted."""
    both = len(curves) == 2
    titles = base.facet_titles(["Training loss", "Distance between the two losses"][: 2 if both else 1])
    rows = len(titles)
    figure = make_subplots(
        rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.14, row_heights=[0.58, 0.42][:rows], subplot_titles=titles
    )
    base.left_titles(figure)
    for key, values in curves.items():
        series = identity.framework(key)
        steps = base.thin(len(values), base.MAX_POINTS)
        figure.add_scatter(
            x=steps + 1,
            y=values[steps],
            mode="lines",
            line=base.line(series),
            name=series.label,
            legendgroup=key,
            hovertemplate=f"{series.label}<br>step %{{x}}: loss %{{y:.5f}}<extra></extra>",
            row=1,
            col=1,
        )
    figure.update_yaxes(base.axis("loss", rangemode="tozero"), row=1, col=1)
    if both:
        first, second = curves.values()
        length = min(len(first), len(second))
        distance = np.abs(first[:length] - second[:length])
        steps = base.thin(length, base.MAX_POINTS)
        figure.add_scatter(
            x=steps + 1,
            y=np.where(distance > 0, distance, np.nan)[steps],  # an exact zero is a gap on a log axis
            mode="markers",
            marker={"color": base.NEUTRAL, "size": 3.5},
            hovertemplate="step %{x}: %{y:.2e} apart<extra></extra>",
            row=2,
            col=1,
        )
        figure.add_hline(y=apart, line={"color": identity.ORANGE, "width": 2, "dash": "dot"}, row=2, col=1)
        figure.update_yaxes(base.axis("|difference| of loss", log=True), row=2, col=1)
    figure.update_xaxes(zeroline=False)
    figure.update_xaxes(base.axis("optimizer step"), row=rows, col=1)
    figure.update_layout(base.layout(540 if both else 340))
    return base.finish(figure)


def step_times(times: Mapping[str, Values]) -> dict[str, Any]:
    """The time of every step but the first: a box and the steps themselves, on a log axis."""
    figure = go.Figure()
    steps = np.concatenate([values[1:] for values in times.values()])
    low, high = max(float(steps.min()), 1e-6), max(float(steps.max()), 1e-6)
    for key, values in times.items():
        series = identity.framework(key)
        shown = values[1:][base.thin(len(values) - 1, base.MAX_POINTS // 2)]
        figure.add_box(
            x=shown,
            name=series.label,
            legendgroup=key,
            boxpoints="all",
            jitter=0.6,
            pointpos=0,
            marker={"color": series.color, "size": 3, "opacity": 0.45, "symbol": series.symbol},
            line={"color": series.color, "width": 1.5},
            fillcolor="rgba(0,0,0,0)",
            hovertemplate=f"{series.label}: %{{x:.3g}} ms<extra></extra>",
            hoveron="points",
        )
    figure.update_layout(
        base.layout(
            110 + 70 * len(times),
            xaxis={"title": base.titled("time of one step (ms)"), **base.log_ticks(low, high)},
            yaxis={"automargin": True, "autorange": "reversed"},
        )
    )
    return base.finish(figure)
