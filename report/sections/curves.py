"""The figures of a comparison over its visits: latency against throughput, percentiles, encodings and protocols."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from report import formats, identity
from report.experiment import FULL, Experiment, Group, look
from report.figures import comparison as figures
from report.figures import costs
from report.identity import Series
from report.page import Block, Cell, Column, Heading, Notice, Plot, Section, Table, Text
from report.percentiles import LEVELS
from report.sections import rates
from report.sections.serving import load, name_of

_CLOSED, _PERCENTILES = "closed", ("p50", "p99")
_SWEPT = (
    "One more visit of each server, with each of its settings, walks rates that all have in common and goes on to beyond its own "
    "knee. It is one visit: what differs from start to start is not in its intervals, and no verdict rests on it."
)


def throughput(found: Experiment) -> Section:
    """Latency against throughput with the intervals of the visits' mean, then every load in numbers."""
    blocks: list[Block] = [
        Text(
            text="Every value is one visit's: a deployment of its own. Intervals are 95% t intervals of the mean over "
            "visits, each for itself; "
            "whether two servers differ is the verdict's to say, not whether these overlap. INVALID visits have no value here."
        )
    ]
    panels = _panels(found)
    if panels:
        blocks.append(_curves(panels))
    if found.quick:
        blocks.append(
            Notice(
                title="Few points, with intervals over visits",
                text=f"The rate common to both servers and the highest rate found with few probes; {FULL} searches that "
                "rate to 1% "
                "with longer windows.",
            )
        )
    swept = [(g.series, m) for g in found.wide if g.scenario == rates.SWEEP for m in g.members]
    if swept:
        blocks += [Heading(text="To beyond the knee", id="throughput-sweep"), Text(text=_SWEPT), *rates.curves(swept)]
        blocks += [rates.table(swept), Heading(text="Every load of the visits", id="throughput-loads")]
    elif found.raw["profile"] != "full":
        blocks.append(Notice(title="No sweep was measured", text=f"{FULL} walks the rates of every server to beyond its knee."))
    for scenario in dict.fromkeys(group.scenario for group in found.groups):
        blocks.append(_table(scenario, [group for group in found.groups if group.scenario == scenario]))
    return Section(id="throughput", title="Throughput and latency", short="Throughput", blocks=blocks)


def latency(found: Experiment) -> Section:
    """Percentile curves of the open loop, over visits."""
    blocks: list[Block] = []
    for scenario in ("server", "constant"):
        groups = [g for g in found.of(scenario) if _latencies(g)]
        if groups:
            blocks.append(_percentiles(scenario, groups))
    blocks = blocks or [Notice(title="No open loop was measured", text="Percentiles of a closed loop hide stalls.", tone="warn")]
    return Section(id="latency", title="Latency percentiles", short="Latency", blocks=blocks)


def ways(found: Experiment) -> Section:
    """What a protocol and an encoding cost, as heat maps."""
    # The usual encodings have their visits; of the others there is the wide one.
    closed = {(g.server, g.tuning, g.way): g for g in [*_of(found.wide, _CLOSED), *_of(found.groups, _CLOSED)]}
    columns = sorted({way for _, _, way in closed}, key=lambda way: (way.startswith("gRPC"), way))
    rows = [(server, tuning) for server in found.servers for tuning in found.tunings]
    blocks: list[Block] = [
        Text(
            text="The same tensor can travel as JSON text or as bytes, over HTTP or gRPC. Servers are only ever compared "
            "within one column; "
            "along a row one sees what the protocol and its encoding cost that server."
        )
    ]
    if not any(g.scenario == _CLOSED for g in found.wide):
        blocks.append(
            Notice(
                title="One encoding a protocol was measured",
                text=f"{FULL} measures every encoding that a server takes; `make loadtest ENCODINGS=json,raw` any of them.",
            )
        )
    for key, unit, title in (
        ("throughput_rps", "requests per second", "Throughput of the closed loop"),
        ("cpu_us_per_request", "server CPU, µs a request", "Server CPU a request in the closed loop"),
    ):
        values = [[_middle(closed[*row, way].of(key)) if (*row, way) in closed else None for way in columns] for row in rows]
        if not any(value is not None for line in values for value in line):
            continue
        labels = [look(*row).label.replace(", ", " · ", 1) for row in rows]
        told = [
            f"{label}, {way} {formats.number(value)}"
            for label, line in zip(labels, values, strict=True)
            for way, value in zip(columns, line, strict=True)
        ]
        blocks.append(
            Plot(
                id=f"plot-ways-{'throughput' if key == 'throughput_rps' else 'cpu'}",
                title=title,
                figure=costs.heat_map(labels, columns, values, unit),
                label=f"{title} in {unit}: {'; '.join(told)}.",
                caption="Mean over the VALID visits; of an encoding other than the usual one there is a single visit. The figure "
                "stands in its cell, colour only repeats it; – was not measured: the server does not take that encoding, or no "
                "visit is VALID.",
            )
        )
    return Section(id="ways", title="Encodings and protocols", short="Encodings", blocks=blocks)


def _of(groups: Sequence[Group], scenario: str) -> list[Group]:
    return [group for group in groups if group.scenario == scenario and group.valid]


def mean_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and its 95% t interval over visits; no wider than the point itself for one visit."""
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean, mean
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return mean, max(mean - half, 0.0), mean + half


def _panels(found: Experiment) -> dict[str, dict[Series, list[figures.Point]]]:
    panels: dict[str, dict[Series, list[figures.Point]]] = {}
    for group in found.groups:
        if group.scenario == _CLOSED or not _latencies(group):
            continue
        for level in _PERCENTILES:
            point = figures.Point(
                throughput=mean_interval(group.of("throughput_rps")),
                latency=mean_interval(group.of(level)),
                load=name_of(group.scenario),
            )
            panels.setdefault(f"{group.way}: {level}", {}).setdefault(group.series, []).append(point)
    return dict(sorted(panels.items(), key=lambda item: (item[0].startswith("gRPC"), item[0])))


def _curves(panels: dict[str, dict[Series, list[figures.Point]]]) -> Plot:
    legend = list(dict.fromkeys(series for lines in panels.values() for series in lines))
    ends = [
        f"{panel}, {series.label}: "
        + ", ".join(f"{formats.milliseconds(p.latency[0])} at {formats.number(p.throughput[0])}/s" for p in points)
        for panel, lines in panels.items()
        for series, points in lines.items()
    ]
    return Plot(
        id="plot-curves",
        title="Latency against throughput, open loop",
        figure=figures.latency_throughput(panels),
        label=f"Latency in ms against requests per second: {'; '.join(ends)}.",
        caption="Each point is a load: a common rate, and the highest that meets the SLO. Lower and further right is better. "
        "Whiskers are 95% intervals of the mean over visits, both ways, and may leave the plot where visits are few. A panel "
        "holds one protocol, encoding and percentile; log axis for latency.",
        legend=legend,
    )


def _percentiles(scenario: str, groups: list[Group]) -> Plot:
    visits = [
        figures.Visits(panel=group.way, series=group.series, ordered_ms=[m.samples.ordered_ms for m in group.valid if m.samples])
        for group in groups
    ]
    p99 = "; ".join(f"{g.series.label}, {g.way} {formats.milliseconds(_middle(g.of('p99')))}" for g in groups)
    rates = formats.listed(sorted({f"{g.way} {load(g.valid[0])}" for g in groups}))
    return Plot(
        id=f"plot-visits-{scenario}",
        title=f"Latency percentiles at the same rate, {name_of(scenario).lower()}",
        figure=figures.percentiles_over_visits(visits),
        label=f"Latency in ms against percentile with a stretched tail; mean p99: {p99}.",
        caption=f"Offered: {rates}. The line is the middle visit, the band spans from the lowest to the highest visit. Both "
        "axes are "
        "logarithmic: each further nine of the percentile has the same width. The last part of a curve is few requests' doing.",
        legend=list(dict.fromkeys(group.series for group in groups)),
    )


def _table(scenario: str, groups: list[Group]) -> Table:
    return Table(
        caption=f"{name_of(scenario)}: means over VALID visits, latency in ms",
        columns=(
            Column(title="Server, settings"),
            Column(title="Protocol · encoding"),
            Column(title="VALID visits", numeric=True),
            Column(title="Requests/s", numeric=True),
            *(Column(title=name.replace("_", "."), numeric=True) for name in LEVELS),
            Column(title="Server CPU, µs a request", numeric=True),
        ),
        rows=[
            (
                Cell(text=identity.server(group.server).label, series=group.series, note=group.series.label.split(", ")[-1]),
                Cell(text=group.way),
                Cell(
                    text=f"{len(group.valid)} of {len(group.members)}",
                    tone="good" if len(group.valid) == len(group.members) else "warn",
                ),
                _cell(group.of("throughput_rps")),
                *(_cell(group.of(name)) for name in LEVELS),
                _cell(group.of("cpu_us_per_request")),
            )
            for group in groups
        ],
        note="Small figures are 95% intervals of the mean over visits."
        + (" Latencies of a closed loop hide stalls: do not quote them." if scenario == _CLOSED else ""),
    )


def _cell(values: list[float]) -> Cell:
    if not values:
        return Cell(text=formats.NONE)
    mean, low, high = mean_interval(values)
    return Cell(text=formats.number(mean), note=formats.interval(low, high) if len(values) > 1 else "one visit")


def _latencies(group: Group) -> bool:
    return any(m.samples is not None and len(m.samples.ordered_ms) for m in group.valid)


def _middle(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
