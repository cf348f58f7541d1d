"""How far the artifacts, and the answers over the wire, are from the golden outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from report.figures import base
from report.identity import Series


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison with the golden outputs. `row` is its line in the plot."""

    row: str
    series: Series
    batch_size: int
    max_abs_difference: float
    tolerance: float


def differences(checks: Sequence[Check]) -> dict[str, Any]:
    """Every check's largest difference on a log axis, with the tolerance it must stay under."""
    rows = list(dict.fromkeys(check.row for check in checks))
    positive = [check.max_abs_difference for check in checks if 0 < check.max_abs_difference < np.inf]
    # Zero has no place on a log axis: an exact match is an open marker left of the smallest difference.
    floor = 10.0 ** np.floor(np.log10(min(positive, default=1e-8)) - 0.5)
    ceiling = max([check.tolerance for check in checks] + positive) * 4
    figure = go.Figure()
    for series in dict.fromkeys(check.series for check in checks):
        mine = [check for check in checks if check.series == series]
        figure.add_scatter(
            x=[min(max(check.max_abs_difference, floor), ceiling) for check in mine],
            y=[_two_lines(check.row) for check in mine],
            customdata=[
                [check.batch_size, "exactly 0" if check.max_abs_difference == 0 else f"{check.max_abs_difference:.2e}"]
                for check in mine
            ],
            hovertemplate="%{y}<br>batch size %{customdata[0]}<br>largest difference %{customdata[1]}<extra></extra>",
            mode="markers",
            marker={
                **base.marker(series, 10),
                "symbol": [f"{series.symbol}-open" if check.max_abs_difference == 0 else series.symbol for check in mine],
                "opacity": 0.85,
            },
            name=base.text(series.label),
            legendgroup=series.key,
        )
    for index, row in enumerate(rows):
        tolerance = next(check.tolerance for check in checks if check.row == row)
        figure.add_shape(
            type="line", x0=tolerance, x1=tolerance, y0=index - 0.42, y1=index + 0.42, line={"color": base.NEUTRAL, "width": 3}
        )
    order = [_two_lines(row) for row in rows]
    figure.update_layout(
        base.layout(
            80 + 46 * len(rows),
            xaxis=base.axis("largest |difference| of logits", log=True, range=[np.log10(floor) - 0.2, np.log10(ceiling)]),
            yaxis={"automargin": True, "categoryorder": "array", "categoryarray": order, "range": [len(rows) - 0.5, -0.5]},
        )
    )
    return base.finish(figure)


def _two_lines(row: str) -> str:
    """A long label on two lines: a phone has little room beside a plot."""
    return base.text(row).replace(" · ", "<br>", 1)
