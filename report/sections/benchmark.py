"""What a benchmarks page has beside the report's sections: versions, the winners' settings, every visit in numbers."""

from __future__ import annotations

import json

from report import formats, identity
from report.experiment import Experiment, look
from report.measurements import Measurement
from report.page import Cell, Column, Facts, Section, Table, Text
from report.records import Run, reading
from report.sections.context import UNKNOWN
from report.sections.serving import load, name_of
from report.sections.tuning import name

_ROLES = {"ab": "", "aa": "against itself", "wide": "sweep and encodings"}


def versions(run: Run) -> Facts:
    """Of the system and of every package that the run recorded."""
    with reading(run.directory / "summary.json", "make compare"):
        environment = run.summary.get("environment") or {}
        system, packages = environment.get("system") or {}, environment.get("packages") or {}
        facts = (
            ("Kernel", str(system.get("kernel", UNKNOWN))),
            ("Python", str(system.get("python", UNKNOWN))),
            ("Packages", ", ".join(f"{package} {version}" for package, version in sorted(packages.items())) or UNKNOWN),
        )
    return Facts(title="Versions", facts=facts)


def winners(found: Experiment) -> Section:
    """The settings of each server's best trial, as changes to its preset."""
    with reading(found.run.directory / "compare.json", "make compare"):
        rows = []
        for server in found.servers:
            trials = found.raw["tuning"].get(server) or []
            best = max((trial for trial in trials if trial["value"] is not None), key=lambda t: t["value"], default=None)
            label = Cell(text=identity.server(server).label)
            if best is None:
                rows.append((label, Cell(text="the preset `tuned`: no trial is VALID"), Cell(text=formats.NONE)))
            else:
                rows.append((label, Cell(text=name(best)), Cell(text=json.dumps(best["settings"], sort_keys=True))))
    table = Table(
        caption="“Best settings” of this run",
        columns=(Column(title="Server"), Column(title="Changes to the preset"), Column(title="Settings")),
        rows=rows,
        note="The preset is `tuned` of presets/servers.",
    )
    return Section(id="winners", title="The winners' settings", blocks=[table])


def visits(found: Experiment) -> Section:
    """Every visit in the order it was made, a row for each of its measurements."""
    rows = []
    with reading(found.run.directory / "compare.json", "make compare"):
        for visit in sorted(found.raw["visits"], key=lambda visit: visit["order"]):
            who = look(visit["server"], visit["tuning"]).label
            about = ", ".join(filter(None, (f"visit {visit['order']}", _ROLES[visit["role"]])))
            rows += [_row(who, about, found.by_id[one]) for one in visit["measurements"]]
    table = Table(
        caption="Every measurement of every visit, in the order they were made",
        columns=(
            Column(title="Server, settings"),
            Column(title="Protocol · encoding"),
            Column(title="Load"),
            *(Column(title=title, numeric=True) for title in ("Requests/s", "p50, ms", "p99, ms", "Server CPU, µs a request")),
            Column(title=""),
        ),
        rows=rows,
        note="Latencies of a closed loop hide stalls: do not quote them.",
    )
    failed = [f"{look(v['server'], v['tuning']).label}, visit {v['order']}: {v['reason']}" for v in found.failed]
    told = f"Failed: {'; '.join(failed)}." if failed else f"{formats.plural(len(found.raw['visits']), 'visit')}, none failed."
    return Section(id="visits", title="Every visit", blocks=[Text(text=told), table])


def _row(who: str, about: str, m: Measurement) -> tuple[Cell, ...]:
    percentiles = [formats.number(p.value_ms if (p := m.percentile(level)) else None) for level in ("p50", "p99")]
    return (
        Cell(text=who, note=about),
        Cell(text=m.way),
        Cell(text=load(m), note=name_of(m.scenario)),
        Cell(text=formats.number(m.throughput_rps)),
        *(Cell(text=value) for value in percentiles),
        Cell(text=formats.number(m.server_use.get("cpu_us_per_request"))),
        Cell(text="VALID" if m.valid else "INVALID"),
    )
