"""What the tuner tried on each server, what won, and which setting mattered."""

from __future__ import annotations

from typing import Any

import numpy as np

from report import formats, identity
from report.experiment import FULL, Experiment
from report.figures import costs as figures
from report.page import Block, Cell, Column, Heading, Notice, Plot, Section, Table, Text
from report.records import reading

AS_TUNED = "as tuned"
FEWEST = 8  # trials a server, below which one cannot say what a setting did


def section(found: Experiment) -> Section:
    """Each server's trials, in a plot and a table; then what mattered."""
    with reading(found.run.directory / "compare.json", "make compare"):
        trials: dict[str, list[dict[str, Any]]] = {server: found.raw["tuning"].get(server) or [] for server in found.servers}
        known = {server: tried for server, tried in trials.items() if tried}
        blocks: list[Block] = [
            Text(
                text="Each server gets the same number of trials, proposed by Optuna from presets/compare.yaml; a trial is "
                "a visit of its own and "
                "worth its closed-loop throughput, the geometric mean over protocols. The first is our preset `tuned`. The "
                "winner is "
                "judged by fresh visits (“best settings”), never by its own trial, which won partly by luck."
            )
        ]
        if not known:
            blocks.append(Notice(title="No tuner ran in this run", tone="warn"))
        else:
            blocks += _shown(found, known)
    return Section(id="tuning", title="Tuning: what mattered", short="Tuning", blocks=blocks)


def _shown(found: Experiment, known: dict[str, list[dict[str, Any]]]) -> list[Block]:
    searches = [
        figures.Trials(series=identity.server(s), values=[t["value"] for t in tried], names=[name(t) for t in tried])
        for s, tried in known.items()
    ]
    best = {server: max((t["value"] or 0.0 for t in tried), default=0.0) for server, tried in known.items()}
    blocks: list[Block] = []
    if min(len(tried) for tried in known.values()) < FEWEST:
        number = min(len(tried) for tried in known.values())
        blocks.append(
            Notice(
                title=f"{formats.plural(number, 'trial')} a server: too few to say what mattered",
                text=f"They can find something better than the preset, not the best. {FULL} spends more on each server.",
            )
        )
    blocks.append(
        Plot(
            id="plot-trials",
            title="Trials in their order",
            figure=figures.trials(searches),
            label="Throughput in requests per second of each trial; best: "
            + "; ".join(f"{identity.server(server).label} {formats.number(value)}" for server, value in best.items()),
            caption="A marker is a trial, the line the best so far; a cross at 0 is an INVALID trial, which is spent all "
            "the same.",
            legend=[search.series for search in searches],
        )
    )
    for server, tried in known.items():
        label = identity.server(server).label
        blocks.append(Heading(text=label, id=f"tuning-{''.join(c if c.isalnum() else '-' for c in server)}"))
        blocks.append(_table(label, tried, best[server]))
        if len(tried) >= FEWEST and (effects := _effects(tried)):
            blocks.append(effects)
    return blocks


def name(trial: dict[str, Any]) -> str:
    """A trial's departures from the preset."""
    changed = [f"{axis} {choice}" for axis, choice in trial["choices"].items() if choice != AS_TUNED]
    return ", ".join(changed) or AS_TUNED


def _table(label: str, tried: list[dict[str, Any]], best: float) -> Table:
    return Table(
        caption=f"{label}: {formats.plural(len(tried), 'trial')}",
        columns=(
            Column(title="Trial"),
            Column(title="Changes to the preset"),
            Column(title="Requests/s", numeric=True),
            Column(title=""),
        ),
        rows=[
            (
                Cell(text=str(trial["number"])),
                Cell(text=name(trial)),
                Cell(text=formats.number(trial["value"])),
                Cell(text="INVALID", tone="bad", note="; ".join(trial["reasons"]))
                if trial["value"] is None
                else Cell(text="winner", tone="good")
                if trial["value"] == best
                else Cell(text="VALID", tone="info"),
            )
            for trial in tried
        ],
    )


def _effects(tried: list[dict[str, Any]]) -> Table | None:
    """Per setting: the mean of the trials that had it against the mean of those that had not."""
    rows: list[tuple[float, tuple[Cell, ...]]] = []
    valid = [trial for trial in tried if trial["value"]]
    for axis in valid[0]["choices"] if valid else ():
        for choice in sorted({trial["choices"][axis] for trial in valid} - {AS_TUNED}):
            with_it = [t["value"] for t in valid if t["choices"][axis] == choice]
            without = [t["value"] for t in valid if t["choices"][axis] != choice]
            if len(with_it) < 2 or len(without) < 2:
                continue
            effect = float(np.mean(with_it) / np.mean(without))
            cells = (
                Cell(text=f"{axis} {choice}"),
                Cell(text=formats.number(effect)),
                Cell(text=f"{len(with_it)} and {len(without)}"),
                Cell(text=formats.number(max(with_it))),
            )
            rows.append((abs(np.log(effect)), cells))
    if not rows:
        return None
    return Table(
        caption="What mattered, the largest effect first",
        columns=(
            Column(title="Setting"),
            Column(title="Throughput with it over without", numeric=True),
            Column(title="Trials with and without", numeric=True),
            Column(title="Best with it, requests/s", numeric=True),
        ),
        rows=[cells for _, cells in sorted(rows, key=lambda row: -row[0])],
        note="Means over trials whose other settings differ too: a hint where to look, not a measurement. Settings tried "
        "fewer than twice "
        "are left out.",
    )
