"""Where the time goes as stacked bars, encodings and protocols as a heat map, a tuner's trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from report import formats, identity
from report.figures import base
from report.identity import Series

# part -> its colour and pattern: neighbours differ in both
PARTS = {
    "encode": (identity.SKY, ""),
    "network": (identity.BLUE, "/"),
    "queue": (identity.ORANGE, ""),
    "batch_wait": (identity.PURPLE, "x"),
    "compute": (identity.GREEN, ""),
    "decode": (identity.VERMILLION, "\\"),
    "unattributed": (base.NEUTRAL, "."),
}
PART_LABELS = {
    "encode": "client: encode",
    "network": "network and protocol",
    "queue": "queue",
    "batch_wait": "waiting for a batch",
    "compute": "compute",
    "decode": "client: decode",
    "unattributed": "unattributed",
}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One bar: the mean of a request in ms and its parts; `limit_ms` is what the artifact takes in process, alone."""

    row: str
    mean_ms: float
    parts_ms: dict[str, float | None]
    limit_ms: float | None


def part(name: str) -> Series:
    """The look of a part in the legend."""
    return Series(
        key=name, label=PART_LABELS.get(name, name), color=PARTS.get(name, (base.NEUTRAL, ""))[0], dash="solid", symbol="square"
    )


LIMIT = Series(key="limit", label="in-process limit", color=base.NEUTRAL, dash="solid", symbol="diamond")


def stacked(stacks: Sequence[Stack]) -> dict[str, Any]:
    """The parts of the mean, in the order of a request's way, and beside them the in-process limit as a diamond."""
    figure, rows = go.Figure(), [_lines(stack.row) for stack in stacks]
    for name in [*PARTS, *sorted({name for stack in stacks for name in stack.parts_ms} - set(PARTS))]:
        values = [max(stack.parts_ms.get(name) or 0.0, 0.0) for stack in stacks]
        if not any(values):
            continue
        color, pattern = PARTS.get(name, (base.NEUTRAL, ""))
        figure.add_bar(
            y=rows,
            x=values,
            orientation="h",
            name=base.text(part(name).label),
            legendgroup=name,
            marker={
                "color": color,
                "line": {"color": color, "width": 1},
                "pattern": {"shape": pattern, "solidity": 0.25, "fgcolor": "#ffffff", "fillmode": "overlay"},
            },
            hovertemplate=f"%{{y}}<br>{base.text(part(name).label)}: %{{x:.3~g}} ms<extra></extra>",
        )
    limits = [(row, stack.limit_ms) for row, stack in zip(rows, stacks, strict=True) if stack.limit_ms is not None]
    if limits:
        figure.add_scatter(
            y=[row for row, _ in limits],
            x=[limit for _, limit in limits],
            mode="markers",
            marker={"symbol": "diamond", "size": 13, "color": "#ffffff", "line": {"color": "#1c2128", "width": 2.5}},
            name=LIMIT.label,
            legendgroup=LIMIT.key,
            hovertemplate="%{y}<br>in process: %{x:.3~g} ms<extra></extra>",
        )
    figure.update_layout(
        base.layout(
            90 + 46 * len(rows),
            barmode="stack",
            bargap=0.35,
            xaxis=base.axis("mean time of a request (ms)", rangemode="tozero"),
            yaxis={"automargin": True, "categoryorder": "array", "categoryarray": rows, "range": [len(rows) - 0.5, -0.5]},
        )
    )
    return base.finish(figure)


def heat_map(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], unit: str) -> dict[str, Any]:
    """A cell for each server and way, its figure written in it; – was not measured."""
    figure = go.Figure()
    figure.add_heatmap(
        z=[list(row) for row in values],
        x=[_lines(column) for column in columns],
        y=[_lines(row) for row in rows],
        text=[[formats.number(value) for value in row] for row in values],
        texttemplate="%{text}",
        textfont={"color": "#1c2128", "size": 12},  # readable on every colour of the scale
        colorscale=[[0, "#eef4fa"], [1, "#6baed6"]],
        showscale=False,
        xgap=3,
        ygap=3,
        hoverongaps=False,
        hovertemplate=f"%{{y}}<br>%{{x}}<br>%{{text}} {unit}<extra></extra>",
    )
    figure.update_layout(
        base.layout(
            110 + 54 * len(rows),
            xaxis={
                "automargin": True,
                "type": "category",
                "showgrid": False,
                "tickangle": 0,
                "title": base.titled(unit),
                "tickfont": {"size": 10},
            },
            yaxis={"automargin": True, "type": "category", "showgrid": False, "autorange": "reversed"},
        )
    )
    return base.finish(figure)


@dataclass(frozen=True, kw_only=True)
class Trials:
    """One server's search: each trial's value in requests/s (None: INVALID) and what it changed."""

    series: Series
    values: Sequence[float | None]
    names: Sequence[str]


def trials(searches: Sequence[Trials]) -> dict[str, Any]:
    """Every trial's value in order, and the best so far as a line; an INVALID trial is a cross on the axis."""
    figure = go.Figure()
    for search in searches:
        numbers = list(range(1, len(search.values) + 1))
        best, so_far = 0.0, []
        for value in search.values:
            best = max(best, value or 0.0)
            so_far.append(best or None)
        label = base.text(search.series.label)
        figure.add_scatter(
            x=numbers,
            y=so_far,
            mode="lines",
            line={**base.line(search.series), "shape": "hv", "width": 1.5},
            legendgroup=search.series.key,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=numbers,
            y=[value or 0.0 for value in search.values],
            mode="markers",
            marker={
                **base.marker(search.series, 9),
                "symbol": [search.series.symbol if value else "x-thin" for value in search.values],
            },
            cliponaxis=False,
            customdata=[
                base.text(name if value else f"{name}: INVALID") for name, value in zip(search.names, search.values, strict=True)
            ],
            name=label,
            legendgroup=search.series.key,
            hovertemplate=f"{label}, trial %{{x}}: %{{y:.4~g}} requests/s<br>%{{customdata}}<extra></extra>",
        )
    longest = max(len(search.values) for search in searches)
    figure.update_layout(
        base.layout(
            300,
            xaxis=base.axis("trial", dtick=max(1, longest // 10), range=[0.6, longest + 0.4]),
            yaxis=base.axis("throughput (requests per second)", rangemode="tozero"),
        )
    )
    return base.finish(figure)


def _lines(row: str) -> str:
    return base.text(row).replace(" · ", "<br>", 1)
