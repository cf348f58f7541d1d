"""A comparison's figures: ratios with their intervals, latency against throughput, percentiles over visits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from report.figures import base
from report.identity import Series
from report.percentiles import LEVELS

Floats = NDArray[np.float64]
_FACTORS = (1.5, 2, 3, 5, 10, 30, 100, 300, 1000)
_FAR, _BEYOND = 30.0, 3.0  # a forest's axis ends there, or so many times beyond the farthest marker: whiskers may leave it
_ROOM, _MARGIN = 3.0, 1.3  # times the outermost marker, for latency and for throughput: a curve's axes show no more of whiskers
_TAIL_TICKS = {0.0: "0", 0.5: "50", 0.9: "90", 0.99: "99", 0.999: "99.9", 0.9999: "99.99"}


OPEN = Series(key="no-winner", label="neither", color=base.NEUTRAL, dash="solid", symbol="circle")


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One comparison. `advantage` says how many times better the first server is (below 1: worse), whatever the figure."""

    panel: str
    row: str
    advantage: float
    low: float
    high: float
    noise_floor: float | None
    winner: Series | None  # None: no difference, or cannot tell
    told: str


def forest(ratios: Sequence[Ratio], better: tuple[str, str]) -> dict[str, Any]:
    """A line for each comparison: the interval of the advantage on a log axis, on the noise floor as a grey bar.

    Two visits give intervals over many powers of ten, which would leave no room for all others: an arrow says "and further".
    """
    panels = list(dict.fromkeys(ratio.panel for ratio in ratios))
    rows = {panel: list(dict.fromkeys(_lines(r.row) for r in ratios if r.panel == panel)) for panel in panels}
    heights = [len(rows[panel]) + 1.0 for panel in panels]
    height = 90 + round(36 * sum(heights)) + 50 * len(panels)
    figure = _panels(panels, heights, shared=True, gap=60 / height)
    farthest = max(_away(value) for r in ratios for value in (r.low, r.high))
    reach = max(min(farthest, max(_FAR, _BEYOND * max(_away(r.advantage) for r in ratios))), 1.2)
    for ratio in ratios:
        place = {"row": panels.index(ratio.panel) + 1, "col": 1}
        line, color = _lines(ratio.row), ratio.winner.color if ratio.winner else base.NEUTRAL
        if ratio.noise_floor is not None:
            span = min(1 + ratio.noise_floor, reach)
            figure.add_scatter(
                x=[1 / span, span],
                y=[line, line],
                mode="lines",
                line={"color": base.NEUTRAL, "width": 16},
                opacity=0.3,
                hovertemplate=f"noise floor {ratio.noise_floor:.1%}<extra></extra>",
                **place,
            )
        figure.add_scatter(
            x=[ratio.advantage],
            y=[line],
            mode="markers",
            marker={
                "color": color,
                "size": 10,
                "symbol": ratio.winner.symbol if ratio.winner else "circle-open",
                "line": {"color": color, "width": 2},
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [min(ratio.high, reach) - ratio.advantage],
                "arrayminus": [ratio.advantage - max(ratio.low, 1 / reach)],
                "color": color,
                "thickness": 2,
                "width": 5,
            },
            legendgroup=(ratio.winner or OPEN).key,
            hovertemplate=f"{base.text(ratio.told)}<extra></extra>",
            **place,
        )
        further = [x for x, beyond in ((1 / reach, ratio.low < 1 / reach), (reach, ratio.high > reach)) if beyond]
        if further:
            figure.add_scatter(
                x=further,
                y=[line] * len(further),
                mode="markers",
                marker={"color": color, "size": 11, "symbol": [f"triangle-{'right' if x > 1 else 'left'}" for x in further]},
                hovertemplate=f"{base.text(ratio.told)}<extra></extra>",
                **place,
            )
    for nth, panel in enumerate(panels, start=1):
        order = rows[panel]
        figure.update_yaxes(categoryorder="array", categoryarray=order, range=[len(order) - 0.5, -0.5], row=nth, col=1)
    figure.update_yaxes(automargin=True, tickfont={"size": 12})
    # the same factors on both sides of 1: twice as good is as far as half as good
    steps = [step for step in _FACTORS if step <= reach] if reach > 1.5 else [1.1, 1.2, 1.4]
    if len(steps) > 4:
        steps = [step for step in steps if step not in (1.5, 3, 30, 300)]
    ticks = {1.0: "1"} | {factor: f"{step:g}" for step in steps for factor in (1 / step, step)}
    end = math.log10(reach) * 1.04
    figure.update_xaxes(
        type="log",
        tickvals=list(ticks),
        ticktext=list(ticks.values()),
        range=[-end, end],
        tickangle=0,
        zeroline=False,
        automargin=True,
    )
    figure.add_vline(x=1, line={"color": base.NEUTRAL, "width": 1})
    left, right = (base.text(name) for name in better)
    figure.update_xaxes(title=base.titled(f"times better<br>← {right} | {left} →"), row=len(panels), col=1)
    figure.update_layout(base.layout(height))
    return base.finish(figure)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One server under one load: throughput in requests/s and latency in ms, each with the interval of its visits' mean."""

    throughput: tuple[float, float, float]
    latency: tuple[float, float, float]
    load: str


def latency_throughput(panels: dict[str, dict[Series, list[Point]]]) -> dict[str, Any]:
    """A panel for each protocol, encoding and percentile; a line for each server and tuning through the loads measured."""
    names = list(panels)
    figure = _panels(names, [1.0] * len(names), shared=False)
    for nth, name in enumerate(names, start=1):
        for series, points in panels[name].items():
            ordered = sorted(points, key=lambda point: point.throughput[0])
            x, y = (np.array([getattr(p, axis) for p in ordered]) for axis in ("throughput", "latency"))
            figure.add_scatter(
                x=x[:, 0],
                y=y[:, 0],
                error_x=_bars(x, series),
                error_y=_bars(y, series),
                mode="lines+markers",
                line=base.line(series),
                marker=base.marker(series, 8),
                name=base.text(series.label),
                legendgroup=series.key,
                customdata=[base.text(point.load) for point in ordered],
                hovertemplate=f"{base.text(series.label)}<br>%{{customdata}}<br>%{{x:.4~g}} requests/s, %{{y:.4~g}} "
                "ms<extra></extra>",
                row=nth,
                col=1,
            )
    for nth, found in enumerate(panels.values(), start=1):
        throughput = [p.throughput for points in found.values() for p in points]
        end = min(max(high for _, _, high in throughput), max(middle for middle, _, _ in throughput) * _MARGIN)
        figure.update_xaxes(range=[0, end * 1.04], row=nth, col=1)
    latency = np.array([p.latency for found in panels.values() for points in found.values() for p in points])
    lowest, highest = max(latency.min(), latency[:, 0].min() / _ROOM), min(latency.max(), latency[:, 0].max() * _ROOM)
    figure.update_xaxes(zeroline=False, automargin=True)
    figure.update_xaxes(title=base.titled("successful requests per second"), row=len(names), col=1)
    figure.update_yaxes({"title": base.titled("latency (ms)"), **base.log_ticks(max(lowest, 1e-3), highest)})
    figure.update_layout(base.layout(90 + 210 * len(names)))
    return base.finish(figure)


@dataclass(frozen=True, kw_only=True)
class Visits:
    """The latencies of the visits of one server and tuning, each ascending, in ms."""

    panel: str
    series: Series
    ordered_ms: Sequence[Floats]


def percentiles_over_visits(found: Sequence[Visits]) -> dict[str, Any]:
    """For each group the middle visit's percentile curve and, as a band, the lowest and highest visit's."""
    panels = list(dict.fromkeys(group.panel for group in found))
    figure = _panels(panels, [1.0] * len(panels), shared=True)
    low, high, longest = np.inf, 0.0, 10
    for group in found:
        fewest = min(len(values) for values in group.ordered_ms)
        top = 1 - 1 / max(fewest, 2)
        levels = np.unique(np.concatenate([1 - np.logspace(0, np.log10(1 - top), 160), [v for v in LEVELS.values() if v < top]]))
        curves = np.array([_at(values, levels) for values in group.ordered_ms])
        low, high, longest = min(low, curves.min()), max(high, curves.max()), max(longest, fewest)
        x, place = 1 / (1 - levels), {"row": panels.index(group.panel) + 1, "col": 1}
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([curves.max(0), curves.min(0)[::-1]]),
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=f"{group.series.color}2b",
            hoverinfo="skip",
            legendgroup=group.series.key,
            **place,
        )
        label = base.text(group.series.label)
        figure.add_scatter(
            x=x,
            y=np.median(curves, axis=0),
            customdata=levels * 100,
            mode="lines",
            line={**base.line(group.series), "width": 2.2},
            name=label,
            legendgroup=group.series.key,
            hovertemplate=f"{label}<br>p%{{customdata:.4~g}}: %{{y:.4~g}} ms, middle visit<extra></extra>",
            **place,
        )
    ticks = {1 / (1 - level): label for level, label in _TAIL_TICKS.items() if 1 / (1 - level) <= longest * 1.01}
    figure.update_xaxes(type="log", tickvals=list(ticks), ticktext=list(ticks.values()), zeroline=False, automargin=True)
    figure.update_xaxes(title=base.titled("percentile (%), tail stretched"), row=len(panels), col=1)
    figure.update_yaxes({"title": base.titled("latency (ms)"), **base.log_ticks(max(low, 1e-3), max(high, low * 1.1))})
    figure.update_layout(base.layout(80 + 240 * len(panels)))
    return base.finish(figure)


def _at(ordered: Floats, levels: Floats) -> Floats:
    ranks = np.clip(np.ceil(np.round(levels * len(ordered), 9)).astype(np.int64), 1, len(ordered))
    return ordered[ranks - 1]


def _bars(values: Floats, series: Series) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": values[:, 2] - values[:, 0],
        "arrayminus": values[:, 0] - values[:, 1],
        "color": series.color,
        "thickness": 1.2,
        "width": 4,
    }


def _panels(titles: Sequence[str], heights: Sequence[float], *, shared: bool, gap: float | None = None) -> go.Figure:
    figure = make_subplots(
        rows=len(titles),
        cols=1,
        shared_xaxes=shared,
        row_heights=list(heights),
        vertical_spacing=0.24 / max(len(titles), 2) if gap is None else gap,
        subplot_titles=base.facet_titles(titles),
    )
    base.left_titles(figure)
    return figure


def _away(factor: float) -> float:
    """How many times a factor is from 1, whichever way."""
    return max(factor, 1 / factor)


def _lines(row: str) -> str:
    """A long label on two lines: a phone has little room beside a plot."""
    return base.text(row).replace(" · ", "<br>", 1)
