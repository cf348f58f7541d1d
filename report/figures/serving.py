"""Throughput and latency, from raw rows. One facet holds only what is comparable: one protocol and one encoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from report import formats, percentiles
from report.figures import base
from report.identity import Series
from report.measurements import Measurement

POINTS_OF_A_PLOT = base.MAX_POINTS
_TAIL_TICKS = {0.0: "0", 0.5: "50", 0.9: "90", 0.99: "99", 0.999: "99.9", 0.9999: "99.99", 0.99999: "99.999"}


def ways(found: Sequence[Measurement]) -> list[str]:
    """The comparable groups, in order."""
    return list(dict.fromkeys(m.way for m in found))


def throughput(found: Sequence[Measurement]) -> dict[str, Any]:
    """A bar for each measurement, whiskers over its accepted windows; INVALID ones are hatched."""
    figure = go.Figure()
    for series in dict.fromkeys(m.series for m in found):
        mine = [m for m in found if m.series == series and m.throughput_rps is not None]
        values = [m.throughput_rps or 0.0 for m in mine]
        spans = [
            [w.throughput_rps for w in m.windows if w.accepted and w.throughput_rps is not None] or [v]
            for m, v in zip(mine, values, strict=True)
        ]
        figure.add_bar(
            y=[_row(m) for m in mine],
            x=values,
            orientation="h",
            name=base.text(series.label),
            legendgroup=series.key,
            marker={
                "color": series.color,
                "line": {"color": series.color, "width": 1.5},
                "pattern": {"shape": ["" if m.valid else "/" for m in mine], "fillmode": "replace", "solidity": 0.35},
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [max(max(span) - value, 0) for span, value in zip(spans, values, strict=True)],
                "arrayminus": [max(value - min(span), 0) for span, value in zip(spans, values, strict=True)],
                "color": base.NEUTRAL,
                "thickness": 1.5,
                "width": 5,
            },
            text=[f"{formats.number(value)}{'' if m.valid else ' INVALID'}" for m, value in zip(mine, values, strict=True)],
            textposition=["inside" if m.valid else "outside" for m in mine],  # white on hatching cannot be read
            insidetextanchor="start",
            insidetextfont={"color": "#ffffff", "size": 12},
            hovertemplate=f"{base.text(series.label)}<br>%{{y}}: %{{x:,.1f}} requests/s<extra></extra>",
        )
    groups, bars = len({_row(m) for m in found}), len(found)
    figure.update_layout(
        base.layout(
            80 + 34 * bars + 14 * groups,
            bargap=0.28,
            bargroupgap=0.08,
            xaxis=base.axis("successful requests per second", rangemode="tozero"),
            yaxis={
                "automargin": True,
                "autorange": "reversed",
                "categoryorder": "array",
                "categoryarray": list(dict.fromkeys(_row(m) for m in found)),
            },
        )
    )
    return base.finish(figure)


def percentile_curves(found: Sequence[Measurement], looks: dict[str, Series]) -> dict[str, Any]:
    """Latency against percentile; the axis stretches the tail: each nine has the same width."""
    measured = [m for m in found if m.samples and len(m.samples.ordered_ms) > 1]
    facets = ways(measured)
    figure = _facets(measured)
    longest = 10
    for m in measured:
        assert m.samples
        levels, values, supported = percentiles.curve(m.samples.ordered_ms, m.samples.num_failed)
        longest = max(longest, len(m.samples.ordered_ms))
        row, look = facets.index(m.way) + 1, looks[m.id]
        label = base.text(f"{m.name}{'' if m.valid else ' (INVALID)'}")
        for part, dash, width in ((slice(None, supported), look.dash, 2.2), (slice(supported - 1, None), "dot", 1.4)):
            figure.add_scatter(
                x=1 / (1 - levels[part]),
                y=values[part],
                customdata=levels[part] * 100,
                mode="lines",
                line={"color": look.color, "width": width, "dash": dash},
                name=label,
                legendgroup=look.key,
                hovertemplate=f"{label}<br>p%{{customdata:.4~g}}: %{{y:.4~g}} ms<extra></extra>",
                row=row,
                col=1,
            )
        known = [p for p in m.percentiles if p.supported]
        figure.add_scatter(
            x=[1 / (1 - p.level) for p in known],
            y=[p.value_ms for p in known],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [(p.high_ms or p.value_ms) - p.value_ms for p in known],
                "arrayminus": [p.value_ms - (p.low_ms or p.value_ms) for p in known],
                "color": look.color,
                "thickness": 1.2,
                "width": 4,
            },
            mode="markers",
            marker=base.marker(look),
            legendgroup=look.key,
            name=label,
            hovertemplate=f"{label}<br>%{{y:.4~g}} ms, 95% +%{{error_y.array:.3~g}} -%{{error_y.arrayminus:.3~g}}<extra></extra>",
            row=row,
            col=1,
        )
    ticks = {1 / (1 - level): label for level, label in _TAIL_TICKS.items() if 1 / (1 - level) <= longest * 1.01}
    figure.update_xaxes(type="log", tickvals=list(ticks), ticktext=list(ticks.values()), zeroline=False, automargin=True)
    figure.update_xaxes(title=base.titled("percentile (%), tail stretched"), row=len(facets), col=1)
    figure.update_yaxes({"title": base.titled("latency (ms)"), **base.log_ticks(*_span(measured))})
    figure.update_layout(base.layout(80 + 230 * len(facets)))
    return base.finish(figure)


def distributions(found: Sequence[Measurement], looks: dict[str, Series]) -> dict[str, Any]:
    """Where the latencies lie: a histogram with bins of equal ratio, as the share of requests in each bin."""
    measured = [m for m in found if m.samples and len(m.samples.ordered_ms) > 1]
    facets = ways(measured)
    figure = _facets(measured)
    low, high = _span(measured)
    edges = np.logspace(np.log10(low) - 0.02, np.log10(high) + 0.02, 91)
    for m in measured:
        assert m.samples
        look, label = looks[m.id], base.text(f"{m.name}{'' if m.valid else ' (INVALID)'}")
        counts = np.histogram(m.samples.ordered_ms, edges)[0]
        figure.add_scatter(
            x=np.repeat(edges, 2)[1:-1],
            y=np.repeat(counts / max(counts.sum(), 1) * 100, 2),
            mode="lines",
            line={"color": look.color, "width": 1.6, "dash": look.dash},
            fill="tozeroy",
            fillcolor=f"{look.color}22",
            name=label,
            legendgroup=look.key,
            hovertemplate=f"{label}<br>about %{{x:.3~g}} ms: %{{y:.2~f}} % of requests<extra></extra>",
            row=facets.index(m.way) + 1,
            col=1,
        )
    figure.update_xaxes(base.log_ticks(low, high))
    figure.update_xaxes(title=base.titled("latency (ms), bins of equal ratio"), row=len(facets), col=1)
    figure.update_yaxes(base.axis("share (%)", rangemode="tozero", nticks=5))
    figure.update_layout(base.layout(90 + 170 * len(facets)))
    return base.finish(figure)


def over_time(found: Sequence[Measurement]) -> tuple[dict[str, Any], int, int]:
    """Every request's latency when it was scheduled, a facet a measurement; returns points shown and points in all."""
    measured = [m for m in found if m.samples and len(m.samples.ordered_ms)]
    figure = make_subplots(
        rows=len(measured),
        cols=1,
        vertical_spacing=0.36 / max(len(measured), 3),
        subplot_titles=base.facet_titles([f"{m.name}{'' if m.valid else ' (INVALID)'}" for m in measured]),
    )
    base.left_titles(figure)
    shown = total = 0
    edges: list[dict[str, Any]] = []
    for row, m in enumerate(measured, start=1):
        assert m.samples
        succeeded = np.flatnonzero(m.samples.succeeded)
        picked = succeeded[base.thin(len(succeeded), POINTS_OF_A_PLOT // len(measured))]
        shown, total = shown + len(picked), total + len(succeeded)
        figure.add_scatter(
            x=m.samples.at_s[picked].round(3),
            y=m.samples.latency_ms[picked].round(4),
            mode="markers",
            marker={"color": m.series.color, "symbol": m.series.symbol, "size": 3, "opacity": 0.5},
            name=base.text(m.name),
            legendgroup=m.series.key,
            hovertemplate="at %{x:.3~f} s: %{y:.4~g} ms<extra></extra>",
            row=row,
            col=1,
        )
        nth = row if row > 1 else ""  # Plotly's first axis has no number
        for edge in m.samples.window_starts_s[1:]:
            place = {"x0": edge, "x1": edge, "y0": 0, "y1": 1, "xref": f"x{nth}", "yref": f"y{nth} domain"}
            edges.append({"type": "line", "line": {"color": base.NEUTRAL, "width": 1, "dash": "dash"}, **place})
    figure.update_xaxes(zeroline=False, automargin=True)
    figure.update_xaxes(title=base.titled("time since the first request (s)"), row=len(measured), col=1)
    figure.update_yaxes({"title": base.titled("ms"), **base.log_ticks(*_span(measured), sparse=True)})
    figure.update_layout(base.layout(90 + 140 * len(measured), shapes=edges))
    return base.finish(figure), shown, total


def _row(m: Measurement) -> str:
    again = f" · repeat {m.repeat}" if m.repeat > 1 else ""
    rows = f" · {m.num_rows_per_request} rows" if m.num_rows_per_request != 1 else ""
    return base.text(f"{m.way}{rows}{again}")


def _facets(found: Sequence[Measurement]) -> go.Figure:
    """Panels below each other with one x axis, a panel for each way; its title names what is INVALID in it."""
    titles = []
    for way in ways(found):
        invalid = [m.series.label for m in found if m.way == way and not m.valid]
        titles.append(f"{way} (INVALID: {', '.join(dict.fromkeys(invalid))})" if invalid else way)
    figure = make_subplots(
        rows=len(titles),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.2 / max(len(titles), 2),
        subplot_titles=base.facet_titles(titles),
    )
    base.left_titles(figure)
    return figure


def _span(found: Sequence[Measurement]) -> tuple[float, float]:
    """The smallest and largest latency of all, so that every panel has the same scale."""
    ends = [(m.samples.ordered_ms[0], m.samples.ordered_ms[-1]) for m in found if m.samples]
    low = max(float(min(end[0] for end in ends)), 1e-3)
    return low, max(float(max(end[1] for end in ends)), low * 1.1)
