"""Of a load test: the curve that `sweep` walked, the rate that `max_qps` found, goodput, and what a request costs the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from report import formats
from report.figures import comparison as figures
from report.identity import Series
from report.measurements import Measurement
from report.page import Block, Cell, Column, Heading, Notice, Plot, Section, Table, Text
from report.records import Run, reading
from report.sections.serving import load, name_of, validity

SWEEP = "sweep"  # its points are lines here, and no bars or curves of their own elsewhere
_LEVELS = ("p50", "p99")
_KNEE = 0.95  # a throughput below this part of what was offered is beyond the knee


def section(run: Run, found: Sequence[Measurement]) -> Section:
    """The curve and the searches where there are any, then every measurement's goodput and client."""
    blocks: list[Block] = [
        Text(
            text="Goodput is what counts for users: right answers within the SLO, a second. A request is encoded before the "
            "clock starts and its answer decoded after it stopped: neither is in a latency, both are a client's cost."
        )
    ]
    points = [m for m in found if m.scenario == SWEEP]
    if points:
        drawn = [(m.series, m) for m in points]
        blocks += [Heading(text="Latency against throughput", id="rates-sweep"), *curves(drawn), table(drawn)]
    searches = [m for m in found if m.search]
    if searches:
        with reading(run.directory / "summary.json", f"make loadtest RUN={run.name}"):
            blocks += [Heading(text="The highest rate within the SLO", id="rates-search"), _searches(searches)]
    return Section(id="rates", title="Rates and goodput", short="Rates", blocks=[*blocks, _costs(found)])


def curves(points: Sequence[tuple[Series, Measurement]]) -> list[Block]:
    """Latency against throughput, a line for each series, through its VALID points."""
    panels: dict[str, dict[Series, list[figures.Point]]] = {}
    for series, m in points:
        for level in _LEVELS:
            p = m.percentile(level)
            if not m.valid or p is None or m.throughput_rps is None:
                continue
            at = (m.throughput_rps,) * 3  # one measurement has no interval of its throughput
            latency = (p.value_ms, p.low_ms or p.value_ms, p.high_ms or p.value_ms)
            point = figures.Point(throughput=at, latency=latency, load=load(m))
            panels.setdefault(f"{m.way}: {level}", {}).setdefault(series, []).append(point)
    if not panels:
        return [Notice(title="No point of the sweep is VALID", text="Their reasons are listed under Validity.", tone="bad")]
    told = "; ".join(
        f"{panel}, {series.label}: "
        + ", ".join(f"{formats.milliseconds(p.latency[0])} at {formats.number(p.throughput[0])}/s" for p in line)
        for panel, lines in panels.items()
        for series, line in lines.items()
    )
    return [
        Plot(
            id="plot-sweep",
            title="Latency against throughput",
            figure=figures.latency_throughput(panels),
            label=f"Latency in ms against requests per second: {told}.",
            caption="Each point is one VALID measurement of the sweep. Lower and further right is better; a curve that turns "
            "up, or back, is beyond its knee. Whiskers are 95% order-statistic intervals. A panel holds one protocol, encoding "
            "and percentile.",
            legend=list(dict.fromkeys(series for lines in panels.values() for series in lines)),
        )
    ]


def table(points: Sequence[tuple[Series, Measurement]]) -> Table:
    """Every point of a sweep in numbers, the INVALID ones too."""
    return Table(
        caption="Every point of the sweep",
        columns=(
            Column(title="Server, protocol · encoding"),
            Column(title="Offered", numeric=True),
            Column(title="Answered, requests/s", numeric=True),
            Column(title="Goodput, requests/s", numeric=True),
            *(Column(title=f"{level}, ms", numeric=True) for level in _LEVELS),
            Column(title=""),
        ),
        rows=[
            (
                _who(m, series),
                Cell(text=load(m), note="beyond the knee" if _beyond(m) else ""),
                Cell(text=formats.number(m.throughput_rps)),
                Cell(text=formats.number(m.goodput_rps), note=_slo(m)),
                *(Cell(text=formats.number(p.value_ms if (p := m.percentile(level)) else None)) for level in _LEVELS),
                validity(m),
            )
            for series, m in points
        ],
        note="Beyond the knee less than 95% of what is offered is answered.",
    )


def _beyond(m: Measurement) -> bool:
    return m.load_kind == "rate" and (m.throughput_rps or 0.0) < _KNEE * (m.offered_rps or m.load_value)


def _searches(searches: Sequence[Measurement]) -> Table:
    return Table(
        caption="What max_qps found, and how sure that is",
        columns=(
            Column(title="Server, protocol · encoding"),
            Column(title="SLO"),
            Column(title="Highest rate, requests/s", numeric=True),
            Column(title="Passed and failed, requests/s", numeric=True),
            Column(title="Rates tried", numeric=True),
            Column(title="Confirmed"),
            Column(title=""),
        ),
        rows=[_search(m, m.search) for m in searches],
        note="The lowest rate that failed and the highest below it that passed. The rate found is measured again with a fresh "
        "seed; where that refutes it, it is searched for once more below. "
        "A rate whose search or confirmation was disturbed is no result.",
    )


def _search(m: Measurement, search: dict[str, Any]) -> tuple[Cell, ...]:
    passed, failed = search["bracket"]
    tried = search["confirmations"]
    last = f"{tried[-1]['num_over']} of {formats.count(tried[-1]['num_requests'])} over the SLO" if tried else ""
    refuted = sum(bool(confirmation.get("refuted")) for confirmation in tried[:-1])
    last += f", after {refuted} refuted" if refuted else ""
    return (
        _who(m),
        Cell(text=f"p{search['percentile']:g} ≤ {search['slo_ms']:g} ms"),
        Cell(text=formats.number(search["max_qps"])),
        Cell(text=f"{formats.number(passed)}, {formats.number(failed)}"),
        Cell(text=str(len(search["points"])), note=f"{sum(bool(point['flags']) for point in search['points'])} flagged"),
        Cell(text="yes" if search["confirmed"] else "no", note=last),
        validity(m),
    )


def _costs(found: Sequence[Measurement]) -> Table:
    return Table(
        caption="Goodput, and what a request costs the client",
        columns=(
            Column(title="Server, protocol · encoding"),
            Column(title="Load"),
            Column(title="Goodput, requests/s", numeric=True),
            Column(title="Encode, µs", numeric=True),
            Column(title="Decode, µs", numeric=True),
            Column(title="Judge, µs", numeric=True),
            Column(title=""),
        ),
        rows=[
            (
                _who(m),
                Cell(text=load(m), note=name_of(m.scenario)),
                Cell(text=formats.number(m.goodput_rps), note=_slo(m)),
                Cell(text=formats.number(m.encode_us)),
                Cell(text=formats.number(m.decode_us)),
                Cell(text=formats.number(m.client.get("judging_us_per_request"))),
                validity(m),
            )
            for m in found
        ],
        note="Means over the distinct requests and answers. Judge is what telling right answers from wrong ones takes, after the "
        "window. – was not measured.",
    )


def _who(m: Measurement, series: Series | None = None) -> Cell:
    look, rows = series or m.series, f" · {m.num_rows_per_request} rows" if m.num_rows_per_request != 1 else ""
    return Cell(text=look.label, note=m.way + rows, series=look)


def _slo(m: Measurement) -> str:
    return "" if m.slo_ms is None or m.goodput_rps is None else f"within {m.slo_ms:g} ms"
