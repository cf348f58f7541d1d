"""What all figures share: escaping, axes with units, facets, thinning, and the way to JSON."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from report.identity import Series

MAX_POINTS = 5000
NEUTRAL = "#8a8f98"  # for lines that belong to no series; visible on light and dark


def text(value: object) -> str:
    """A record's text for Plotly, which reads a little HTML in names and labels."""
    return html.escape(str(value))


def thin(count: int, limit: int) -> NDArray[np.int64]:
    """Indices of at most `limit` of `count` points, evenly spread: the same ones every time."""
    if count <= limit:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, limit).round().astype(np.int64))


def axis(title: str, *, log: bool = False, **more: Any) -> dict[str, Any]:
    """An axis; its title carries the unit. A log axis counts in powers of ten (see also `log_ticks`)."""
    ticks = {"type": "log", "dtick": 1, "exponentformat": "power"} if log else {}
    return {"title": titled(title), "automargin": True, "zeroline": False, "tickangle": 0, **ticks, **more}


def log_ticks(low: float, high: float, *, sparse: bool = False) -> dict[str, Any]:
    """A log axis over positive values from `low` to `high` whose ticks are plain numbers: 2, 5, 10, 20; `sparse`: 1, 10."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    span = math.log10(high / low)
    mantissas = (1, 2, 5) if span > 0.7 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    ticks = [
        m * 10.0**power for power in range(first, last + 1) for m in ((1,) if span > (1.3 if sparse else 3.5) else mantissas)
    ]
    pad = max(0.04 * span, 0.02)
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
        "range": [math.log10(low) - pad, math.log10(high) + pad],
        "zeroline": False,
        "automargin": True,
    }


def titled(title: str) -> dict[str, Any]:
    """An axis title; it carries the unit."""
    return {"text": title, "standoff": 8}


def layout(height: int, **more: Any) -> dict[str, Any]:
    """The layout of every figure. The page draws the legend, so that it wraps and prints like text."""
    return {
        "height": height,
        "margin": {"l": 12, "r": 16, "t": 28, "b": 12},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        **more,
    }


def line(series: Series) -> dict[str, Any]:
    """The line of a series."""
    return {"color": series.color, "width": 2, "dash": series.dash}


def marker(series: Series, size: float = 7) -> dict[str, Any]:
    """The marker of a series."""
    return {"color": series.color, "symbol": series.symbol, "size": size, "line": {"color": series.color, "width": 1.5}}


def facet_titles(titles: Sequence[str]) -> list[str]:
    """Titles of facets, escaped and bold."""
    return [f"<b>{text(title)}</b>" for title in titles]


def left_titles(figure: go.Figure) -> None:
    """Set the titles of facets flush left: centred ones are cut off on a phone."""
    figure.update_annotations(x=0, xanchor="left", font_size=13)


def finish(figure: go.Figure) -> dict[str, Any]:
    """The figure as JSON-ready data, without Plotly's default template: the page brings its own colours."""
    figure.update_layout(template=None)
    done: dict[str, Any] = json.loads(figure.to_json())
    done["layout"].pop("template", None)
    return done
