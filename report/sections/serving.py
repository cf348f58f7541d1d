"""Serving: throughput, then latency scenario by scenario, all from raw rows."""

from __future__ import annotations

from report import formats, identity
from report.figures import serving as figures
from report.identity import Series
from report.measurements import Measurement, scenarios
from report.page import Block, Cell, Column, Heading, Notice, Plot, Section, Table, Text, Tone
from report.percentiles import LEVELS, Percentile, needed

_ABOUT = {
    "server": "Requests arrive at times drawn beforehand (Poisson), whether or not the server is ready, as users do. "
    "Latency counts from the scheduled time, so a stall is charged to every request it held up.",
    "closed": "A fixed number of connections, each sending its next request when the last one is answered. It shows "
    "how much a server can do; its latencies look better than users' because a stalled server is sent nothing.",
}
_APART = "Only lines in the same panel are comparable: a panel holds one protocol and one encoding."


def throughput(found: list[Measurement]) -> Section:
    """How many requests a second each server answered."""
    blocks: list[Block] = []
    for scenario in ("closed", *(name for name in scenarios(found) if name != "closed")):
        mine = [m for m in found if m.scenario == scenario and m.throughput_rps is not None]
        if not mine:
            continue
        kind = name_of(scenario)
        note = "In the open loop this is the rate that was offered, not what the server could do." if scenario == "server" else ""
        blocks.append(Heading(text=f"{kind}: requests per second", id=f"throughput-{_slug(scenario)}"))
        blocks.append(
            Plot(
                id=f"plot-throughput-{_slug(scenario)}",
                title=f"Throughput, {kind.lower()}",
                figure=figures.throughput(mine),
                label="Bars of successful requests per second: "
                + "; ".join(f"{m.name} {formats.number(m.throughput_rps)}{'' if m.valid else ' INVALID'}" for m in mine),
                caption=" ".join(
                    part
                    for part in (
                        note,
                        "Bars are comparable within one protocol and encoding.",
                        "Whiskers span the accepted windows." if any(m.windows for m in mine) else "",
                        "Hatched bars are INVALID." if any(not m.valid for m in mine) else "",
                    )
                    if part
                ),
                legend=_servers(mine),
            )
        )
    if not blocks:
        blocks = [Notice(title="Nothing was answered", text="No measurement of this run has a throughput.", tone="bad")]
    return Section(id="throughput", title="Throughput", short="Throughput", blocks=blocks)


def latency(found: list[Measurement]) -> Section:
    """Percentiles, distributions and single requests of each scenario."""
    blocks: list[Block] = [
        Text(
            text="Every percentile on this page is a latency that was measured (nearest rank over all successful "
            "requests), recomputed from the raw rows and held against the summary. Intervals are 95% order-statistic intervals; "
            "they take requests as "
            "independent, so where requests queue behind each other the true interval is wider."
        )
    ]
    for scenario in scenarios(found):
        blocks += _scenario(scenario, [m for m in found if m.scenario == scenario])
    return Section(id="latency", title="Latency", short="Latency", blocks=blocks)


def _scenario(scenario: str, found: list[Measurement]) -> list[Block]:
    slug, kind = _slug(scenario), name_of(scenario)
    blocks: list[Block] = [Heading(text=f"{kind} (`{scenario}`)", id=f"latency-{slug}")]
    if scenario in _ABOUT:
        blocks.append(Text(text=_ABOUT[scenario]))
    blocks.append(_table(kind, found))
    measured = [m for m in found if m.percentiles]
    if not measured:
        blocks.append(Notice(title="Nothing to draw", text="No request of this scenario succeeded.", tone="bad"))
        return blocks
    looks = _looks(measured)
    p99 = "; ".join(f"{m.name} {formats.milliseconds(p.value_ms)}" for m in measured if (p := m.percentile("p99")))
    points, shown, total = figures.over_time(measured)
    thinned = (
        "every successful request"
        if shown == total
        else f"{formats.count(shown)} of {formats.count(total)} successful requests, evenly spread"
    )
    return [
        *blocks,
        Plot(
            id=f"plot-percentiles-{slug}",
            title=f"Latency percentiles, {kind.lower()}",
            figure=figures.percentile_curves(measured, looks),
            label=f"Latency in ms against percentile with a stretched tail, a line for each server; p99: {p99}.",
            caption=f"Both axes are logarithmic: each further nine of the percentile has the same width. {_APART} "
            "Markers carry 95% intervals; the line turns dotted where the sample is too small to say anything about the "
            "percentile, "
            "and ends at the slowest request.",
            legend=list(dict.fromkeys(looks[m.id] for m in measured)),
        ),
        Plot(
            id=f"plot-distribution-{slug}",
            title=f"Latency distribution, {kind.lower()}",
            figure=figures.distributions(measured, looks),
            label=f"Histograms of latency in ms, a panel for each of {formats.listed(figures.ways(measured))}.",
            caption=f"Share of requests in each bin. {_APART}",
            legend=list(dict.fromkeys(looks[m.id] for m in measured)),
        ),
        Plot(
            id=f"plot-time-{slug}",
            title=f"Latency over time, {kind.lower()}",
            figure=points,
            label=f"Latency of single requests in ms against time in s in {formats.plural(len(measured), 'measurement')}.",
            caption=f"One point is one request at its scheduled time; drawn: {thinned}."
            + (
                " Dashed lines separate windows; in a gap a flagged window was measured again."
                if any(m.samples and len(m.samples.window_starts_s) > 1 for m in measured)
                else ""
            ),
            legend=_servers(measured),
        ),
    ]


def _table(kind: str, found: list[Measurement]) -> Table:
    unsupported = sorted({p.label for m in found for p in m.percentiles if not p.supported})
    sizes = sorted({len(m.samples.ordered_ms) for m in found if m.samples})
    note = "Compare servers within one protocol and encoding. Small figures are 95% intervals."
    if unsupported:
        few = formats.count(sizes[0]) if len(sizes) == 1 else f"{formats.count(sizes[0])} to {formats.count(sizes[-1])}"
        wants = formats.listed([f"{name} needs {formats.count(needed(LEVELS[name.replace('.', '_')]))}" for name in unsupported])
        note += f" ? marks what {few} requests cannot support ({wants}): read it as one run's high value."
    return Table(
        caption=f"{kind}: latency percentiles in ms",
        columns=(
            Column(title="Server, protocol · encoding"),
            Column(title="Load", numeric=True),
            *(Column(title=name.replace("_", "."), numeric=True) for name in LEVELS),
            Column(title="Mean", numeric=True),
            Column(title="Max", numeric=True),
            Column(title=""),
        ),
        rows=[
            (
                Cell(text=m.series.label, note=_kind(m), series=m.series),
                Cell(text=load(m), note=_counts(m)),
                *(_percentile(m.percentile(name)) for name in LEVELS),
                Cell(text=formats.number(m.mean_ms)),
                Cell(text=formats.number(m.max_ms)),
                validity(m),
            )
            for m in found
        ],
        note=note,
    )


def validity(m: Measurement) -> Cell:
    """The badge."""
    tone: Tone = "good" if m.valid else "bad"
    return Cell(text="VALID" if m.valid else "INVALID", tone=tone)


def load(m: Measurement) -> str:
    """What was offered: `240 per s` or `4 connections`."""
    return f"{formats.number(m.load_value)} per s" if m.load_kind == "rate" else formats.plural(int(m.load_value), "connection")


def _percentile(found: Percentile | None) -> Cell:
    if found is None:
        return Cell(text=formats.NONE)
    if not found.supported:
        return Cell(text=f"{formats.number(found.value_ms)} ?", note="too few")
    return Cell(text=formats.number(found.value_ms), note=formats.interval(found.low_ms, found.high_ms))


def _kind(m: Measurement) -> str:
    rows = f" · {m.num_rows_per_request} rows a request" if m.num_rows_per_request != 1 else ""
    return f"{m.way}{rows}{f' · repeat {m.repeat}' if m.repeat > 1 else ''}"


def _counts(m: Measurement) -> str:
    parts = ((m.num_errors, "failed"), (m.num_wrong, "wrong"))
    return ", ".join([formats.plural(m.num_requests, "request"), *(f"{formats.count(n)} {word}" for n, word in parts if n)])


def _looks(found: list[Measurement]) -> dict[str, Series]:
    """A look for each measurement: the server's own, another dash for a further repeat in the same panel."""
    looks: dict[str, Series] = {}
    for m in found:
        earlier = sum(1 for other in found[: found.index(m)] if (other.way, other.server) == (m.way, m.server))
        if not earlier:
            looks[m.id] = m.series
            continue
        label = f"{m.series.label}, measurement {earlier + 1} of a panel"
        looks[m.id] = identity.variant(m.series, f"{m.server}-{earlier}", label, earlier)
    return looks


def _servers(found: list[Measurement]) -> list[Series]:
    return list(dict.fromkeys(m.series for m in found))


def name_of(scenario: str) -> str:
    """A scenario's name as a heading: `Open loop`."""
    name = identity.SCENARIOS.get(scenario, scenario)
    return name[:1].upper() + name[1:]


def _slug(scenario: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in scenario)
