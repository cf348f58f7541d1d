"""Whether both servers had the same, rule by rule, and what the run declared to be different."""

from __future__ import annotations

import json
from typing import Any

from faceoff import verdict
from report import identity
from report.experiment import Experiment
from report.experiment import short as short_of
from report.page import Block, Cell, Column, Heading, Notice, Table, Text, Tone
from report.records import reading

_TONES: dict[str, Tone] = {"equal": "good", "declared": "info", "differs": "bad", "unknown": "bad"}


INVALID = "This comparison is INVALID: no verdict of it may be quoted"


def invalid(found: Experiment) -> list[Block]:
    """That the comparison as a whole does not count, and why; nothing for one that does."""
    with reading(found.run.directory / "compare.json", "make compare"):
        reasons = [str(reason) for reason in found.raw.get("invalid_reasons") or []]
        return [Notice(title=INVALID, items=reasons, tone="bad")] if reasons else []


def standing(found: Experiment) -> list[Block]:
    """Whether the comparison as a whole counts, and what its profile left short."""
    with reading(found.run.directory / "compare.json", "make compare"):
        short = (found.raw["plan"] or {}).get("short") or []
        result = invalid(found)
        if found.failed:
            items = [f"{_visit(visit)}: {visit['reason']}" for visit in found.failed]
            text = "Each was tried twice. Their figures are missing from every mean and comparison."
            result.append(Notice(title="Visits that failed", text=text, items=items, tone="bad"))
        if short:
            result.append(Notice(title="What this profile leaves short", items=[str(one) for one in short]))
        return result


def blocks(found: Experiment) -> list[Block]:
    """A table for each tuning and pair of servers; what differs undeclared, or could not be read, stands before it."""
    with reading(found.run.directory / "compare.json", "make compare"):
        rules: list[dict[str, Any]] = found.raw["fairness"]
        result: list[Block] = [
            Heading(text="Was it fair?", id="validity-fairness"),
            Text(
                text="Read from the running servers, their processes and the requests that were sent, not from our "
                "configuration. What differs "
                "must be declared as the thing studied, or the run is INVALID."
            ),
        ]
        if not rules:
            return [*result, Notice(title="No fairness check ran: nothing here may be compared", tone="bad")]
        wrong = [r for r in rules if r["verdict"] in ("differs", "unknown")]
        if wrong:
            items = [f"{r['name']} ({_tuning(r)}): {_sides(r)}. {r['reason']}" for r in wrong]
            result.append(Notice(title="Not shown to be fair", items=items, tone="bad"))
        for tuning, a, b in dict.fromkeys((r["tuning"], r["server_a"], r["server_b"]) for r in rules):
            result.append(
                _table(tuning, a, b, [r for r in rules if (r["tuning"], r["server_a"], r["server_b"]) == (tuning, a, b)])
            )
    return result


def _visit(visit: dict[str, Any]) -> str:
    again = {"aa": ", against itself", "wide": ", sweep and encodings"}.get(visit["role"], "")
    return f"{identity.server(visit['server']).label}, {short_of(visit['tuning'])}, visit {visit['order']}{again}"


def _table(tuning: str, a: str, b: str, rules: list[dict[str, Any]]) -> Table:
    labels = [identity.server(server).label for server in (a, b)]
    return Table(
        caption=f"{verdict.TUNINGS.get(tuning, tuning).capitalize()}: {labels[0]} and {labels[1]}",
        columns=(Column(title="What"), *(Column(title=label) for label in labels), Column(title="Verdict")),
        rows=[
            (
                Cell(text=str(r["name"]), note=str(r["reason"])),
                Cell(text=shown(r["a"])),
                Cell(text=shown(r["b"])),
                Cell(text=str(r["verdict"]), tone=_TONES.get(r["verdict"], "bad"), note=str(r.get("declared_because") or "")),
            )
            for r in rules
        ],
    )


def shown(value: Any) -> str:
    """A fact on one line: lists and tables without quotes and braces."""
    if value is None:
        return "not readable"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(shown(one) for one in value) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _sides(r: dict[str, Any]) -> str:
    return f"{identity.server(r['server_a']).label} {shown(r['a'])}, {identity.server(r['server_b']).label} {shown(r['b'])}"


def _tuning(r: dict[str, Any]) -> str:
    return verdict.TUNINGS.get(r["tuning"], str(r["tuning"]))
