"""Where the time of a request goes, beside the in-process limit; what a request costs the machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from faceoff import verdict
from report import formats, identity
from report.experiment import FULL, Experiment, Group, look, short
from report.figures import costs as figures
from report.page import Block, Cell, Column, Heading, Notice, Plot, Section, Table, Text
from report.records import reading

MOST_UNATTRIBUTED = 0.1  # more than this part of the mean without a name is flagged
_KINDS = {
    "in_process": ("The artifact in process", "what the machine can do without a server"),
    "identity": ("The identity model through the server", "what the server costs when the model costs nothing"),
    "null": ("The null server", "what the client and the wire cost"),
}


def section(found: Experiment) -> Section:
    """The stacked bars, the floors, efficiency, resources."""
    with reading(found.run.directory / "compare.json", "make compare"):
        parts, floors = found.raw["breakdown"], found.raw["floors"]
        blocks: list[Block] = [
            Text(
                text="The parts of the mean, each measured, none by subtraction; what no part explains is called unattributed. "
                "The diamond is the same artifact called directly in a process of its own on the same cores: the limit no "
                "server can beat."
            )
        ]
        blocks += _parts(found, parts, floors) if parts else [_left_out("Where the time goes")]
        blocks.append(Heading(text="The floors", id="breakdown-floors"))
        blocks += [_floors(floors), *_efficiency(found, floors)] if floors else [_left_out("The floors")]
        blocks.append(Heading(text="What a request costs", id="breakdown-resources"))
        blocks.append(_resources(found))
        if prices := found.raw.get("cost"):
            blocks.append(_cost(prices))
    return Section(id="breakdown", title="Where the time goes", short="Where time goes", blocks=blocks)


def _left_out(what: str) -> Notice:
    return Notice(
        title=f"{what}: not measured in this run",
        text=f"A run with a time limit leaves it out when its time is over; {FULL} never does.",
        tone="warn",
    )


def _parts(found: Experiment, parts: list[dict[str, Any]], floors: list[dict[str, Any]]) -> list[Block]:
    limits = {(f["server"], f["protocol"]): f["mean_ms"] for f in floors if f["kind"] == "in_process"}
    ordered = sorted(parts, key=lambda p: (p["protocol"] != "rest", identity.rank(p["server"]), p["tuning"] != "default"))
    stacks = [
        figures.Stack(
            row=f"{identity.server(p['server']).label} · {_protocol(p)}, {short(p['tuning'])}",
            mean_ms=p["mean_ms"],
            parts_ms=p["parts_ms"],
            limit_ms=limits.get((p["server"], p["protocol"])),
        )
        for p in ordered
    ]
    names = [n for n in figures.PARTS if any(stack.parts_ms.get(n) for stack in stacks)]
    told = "; ".join(
        f"{s.row}: {formats.milliseconds(s.mean_ms)}, of it "
        + ", ".join(
            f"{figures.PART_LABELS[n]} {formats.milliseconds(s.parts_ms.get(n))}" for n in names if s.parts_ms.get(n) is not None
        )
        for s in stacks
    )
    blocks: list[Block] = [
        Plot(
            id="plot-breakdown",
            title="Where the mean of a request goes",
            figure=figures.stacked(stacks),
            label=told,
            caption="Mean time of a request in ms. A part that a server does not report has no segment: its time is in the "
            "unattributed one.",
            legend=[*(figures.part(name) for name in names), *([figures.LIMIT] if any(limits.values()) else [])],
        ),
        _part_table(ordered, names),
    ]
    unclear = [p for p in ordered if abs(p["parts_ms"].get("unattributed") or 0.0) > MOST_UNATTRIBUTED * p["mean_ms"]]
    if unclear:
        items = [
            f"{look(p['server'], p['tuning']).label}, {_protocol(p)}: {formats.milliseconds(p['parts_ms']['unattributed'])} of "
            f"{formats.milliseconds(p['mean_ms'])}, {formats.percent(p['parts_ms']['unattributed'] / p['mean_ms'])}"
            for p in unclear
        ]
        blocks.append(Notice(title="More than 10% of the mean has no name", items=items, tone="warn"))
    return blocks


def _part_table(parts: list[dict[str, Any]], names: list[str]) -> Table:
    return Table(
        caption="Parts of the mean, ms",
        columns=(
            Column(title="Server, settings"),
            Column(title="Protocol"),
            *(Column(title=figures.PART_LABELS[name], numeric=True) for name in names),
            Column(title="Mean", numeric=True),
        ),
        rows=[
            (
                _who(p["server"], p["tuning"]),
                Cell(text=_protocol(p)),
                *(_part(p["parts_ms"].get(name), p["mean_ms"]) for name in names),
                Cell(text=formats.number(p["mean_ms"])),
            )
            for p in parts
        ],
        note="– is not measured: the server does not report it.",
    )


def _part(value: float | None, mean: float) -> Cell:
    return Cell(text=formats.NONE) if value is None else Cell(text=formats.number(value), note=formats.percent(value / mean, 0))


def _floors(floors: list[dict[str, Any]]) -> Table:
    kinds = list(_KINDS)
    ordered = sorted(
        floors, key=lambda f: (kinds.index(f["kind"]) if f["kind"] in kinds else 9, identity.rank(f.get("server") or ""))
    )
    return Table(
        caption="What the parts around the model cost by themselves",
        columns=(
            Column(title="Floor"),
            Column(title="Server"),
            Column(title="Protocol"),
            Column(title="Requests/s", numeric=True),
            Column(title="Mean, ms", numeric=True),
            Column(title=""),
        ),
        rows=[
            (
                Cell(text=_KINDS.get(f["kind"], (f["kind"], ""))[0], note=_KINDS.get(f["kind"], ("", ""))[1]),
                Cell(text=identity.server(f["server"]).label if f.get("server") else formats.NONE),
                Cell(text=_protocol(f) if f.get("protocol") else formats.NONE),
                Cell(text=formats.number(f.get("throughput_rps"))),
                Cell(
                    text=formats.number(f.get("mean_ms")),
                    note=f"at {formats.number(f['rate_rps'])}/s" if f.get("rate_rps") else "",
                ),
                Cell(text="VALID", tone="good") if f.get("valid", True) else Cell(text="INVALID", tone="bad"),
            )
            for f in ordered
        ],
        note="Throughputs are of closed loops, means of open loops at the comparison's rates. – was not measured in that row.",
    )


def _efficiency(found: Experiment, floors: list[dict[str, Any]]) -> list[Block]:
    limits = {(f["server"], f["protocol"]): f["throughput_rps"] for f in floors if f["kind"] == "in_process"}
    groups = [(g, limits[g.server, g.protocol]) for g in found.of("closed") if (g.server, g.protocol) in limits]
    if not groups:
        return []
    return [
        Table(
            caption="Efficiency: served over in-process throughput, same cores",
            columns=(
                Column(title="Server, settings"),
                Column(title="Protocol · encoding"),
                Column(title="Served, requests/s", numeric=True),
                Column(title="In process, requests/s", numeric=True),
                Column(title="Efficiency", numeric=True),
            ),
            rows=[
                (
                    _who(group.server, group.tuning),
                    Cell(text=group.way),
                    Cell(text=formats.number(_mean(group, "throughput_rps"))),
                    Cell(text=formats.number(limit)),
                    Cell(text=formats.percent((_mean(group, "throughput_rps") or 0.0) / limit)),
                )
                for group, limit in groups
            ],
            note="In process the artifact that is served as installed gets one row at a time, decoding and encoding "
            "included where its server "
            "does that in the same place; a server that batches can pass 100%.",
        )
    ]


def _resources(found: Experiment) -> Table:
    groups = [group for group in found.of("server") or found.of("closed")]
    return Table(
        caption="CPU and memory of the server at the common rate",
        columns=(
            Column(title="Server, settings"),
            Column(title="Protocol · encoding"),
            Column(title="CPU a request, µs", numeric=True),
            Column(title="Memory (RSS)", numeric=True),
        ),
        rows=[
            (
                _who(group.server, group.tuning),
                Cell(text=group.way),
                Cell(text=formats.number(_mean(group, "cpu_us_per_request"))),
                Cell(text=formats.size(max((m.server_use.get("rss_bytes") or 0 for m in group.valid), default=0) or None)),
            )
            for group in groups
        ],
        note="The kernel's CPU clock of the server's processes over the measured windows, so many µs a request are as many "
        "CPU seconds a "
        "million; RSS is the largest of the visits. GPU use and energy are not recorded in this run.",
    )


def _cost(prices: list[dict[str, Any]]) -> Table:
    return Table(
        caption="Cost of a million inferences, from the price list given",
        columns=(
            Column(title="Server, settings"),
            Column(title="Protocol"),
            Column(title="Cores", numeric=True),
            Column(title="Requests/s", numeric=True),
            Column(title="Cost a million", numeric=True),
        ),
        rows=[
            (
                _who(p["server"], p["tuning"]),
                Cell(text=_protocol(p)),
                Cell(text=str(p["cores"])),
                Cell(text=formats.number(p["throughput_rps"])),
                Cell(text=f"{formats.number(p['per_million'])} {p['currency']}"),
            )
            for p in prices
        ],
        note="At full use: the time of the servers' cores for a million requests at the closed loop's throughput.",
    )


def _mean(group: Group, metric: str) -> float | None:
    values = group.of(metric)
    return float(np.mean(values)) if values else None


def _who(server: str, tuning: str) -> Cell:
    return Cell(text=identity.server(server).label, series=look(server, tuning), note=short(tuning))


def _protocol(record: dict[str, Any]) -> str:
    return verdict.PROTOCOLS.get(record["protocol"], str(record["protocol"]))
