"""The page of a run that trained and has no load test: results/<run>/training/ alone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import TypeVar

from report import formats, studies
from report.page import Card, Cards, Code, Facts, Notice, Page, Section, Text
from report.records import Run, reading
from report.sections import studies as blocks
from report.sections.context import UNKNOWN, machine
from report.studies import Study

T = TypeVar("T")

WHAT = {
    "lockstep": "In lock-step",
    "study": "Each its own way",
    "modes": "Mode by mode",
    "distributed": "Data parallel",
}


def page(run: Run) -> Page:
    """Verdicts first, then curves, time and memory, and how to repeat it. Raises CorruptError for a malformed record."""
    found = {kind: studies.load(run, kind) for kind in studies.KINDS}
    every = [record for records in found.values() for record in records]
    models = sorted({record.model for record in every})
    return Page(
        run=run.name,
        title="PyTorch against TensorFlow, training",
        subtitle=f"{formats.plural(len(models), 'model')} · run {run.name}",
        lead=[
            Cards(cards=_cards(found)),
            Notice(title="Training only", text="This run has no load test: nothing was served, and no server is compared here."),
        ],
        sections=[
            _compared(models, found, every),
            Section(id="training", title="Training, side by side", short="Training", blocks=blocks.blocks(run)),
            _again(run, every),
        ],
    )


def _cards(found: dict[str, list[Study]]) -> list[Card]:
    """One for each kind of record that there is."""
    cards = []
    if found["lockstep"]:
        apart = [_read(r, lambda r: r.data["metrics"]["lockstep"]) for r in found["lockstep"]]
        equal = sum(one["first_step_beyond_bound"] is None for one in apart)
        proven = sum("float64" in one and one["first_step_apart"] is not None for one in apart)
        cards.append(
            Card(
                label="Trained equally",
                value=f"{equal} of {len(apart)}",
                note=f"{proven} of them needed float64 to show it" if proven else "all within their stated bounds in float32",
                tone="good" if equal == len(apart) else "bad",
            )
        )
    if found["study"]:
        verdicts = [_read(r, lambda r: str(r.data["verdict"])) for r in found["study"]]
        same = sum(verdict.startswith("equivalent") for verdict in verdicts)
        note = "each framework its own way; two one-sided tests"
        cards.append(Card(label="Equally accurate", value=f"{same} of {len(verdicts)}", note=note))
    if found["modes"]:
        calm = sum(not _read(r, lambda r: r.data["invalid_reasons"]) for r in found["modes"])
        cards.append(
            Card(
                label="Modes compared, VALID",
                value=f"{calm} of {len(found['modes'])}",
                note="on a machine that did nothing else",
                tone="good" if calm == len(found["modes"]) else "bad",
            )
        )
    if found["distributed"]:
        workers = [_read(r, lambda r: int(r.data["num_workers"])) for r in found["distributed"]]
        calm = sum(not _read(r, lambda r: r.data["invalid_reasons"]) for r in found["distributed"])
        cards.append(
            Card(
                label="Data parallel, VALID",
                value=f"{calm} of {len(workers)}",
                note=f"{max(workers)} workers, on a machine that did nothing else",
                tone="good" if calm == len(workers) else "bad",
            )
        )
    return cards


def _compared(models: Sequence[str], found: dict[str, list[Study]], every: Sequence[Study]) -> Section:
    about = (every[0].data.get("environment") or {}) if every else {}
    packages, git = about.get("packages") or {}, about.get("git") or {}
    versions = [f"{name} {packages[name]}" for name in ("torch", "tensorflow", "tensorflow-cpu", "keras") if packages.get(name)]
    changed = " with local changes" if git.get("dirty") else ""
    facts = [
        ("Models", formats.listed(list(models))),
        *((WHAT[kind], formats.listed([r.model for r in records])) for kind, records in found.items() if records),
        ("Frameworks", formats.listed(versions) if versions else UNKNOWN),
        ("Machine", machine(about)),
        ("Source", f"{str(git['commit'])[:12]}{changed}" if git.get("commit") else UNKNOWN),
    ]
    return Section(
        id="compared",
        title="What was compared",
        short="What was compared",
        blocks=[Facts(title="What was compared", facts=facts)],
    )


def _again(run: Run, every: Sequence[Study]) -> Section:
    commands = [*dict.fromkeys(_read(record, lambda r: _command(run, r)) for record in every)]
    environments: dict[str, list[str]] = {}  # equal ones once
    for record in every:
        text = json.dumps(record.data.get("environment") or {}, indent=2)
        environments.setdefault(text, []).append(f"{record.model} {record.path.stem}")
    return Section(
        id="environment",
        title="Reproduce it",
        short="Reproduce it",
        blocks=[
            Text(text="From a checkout of the source revision above, these commands repeat the run:"),
            Code(text="\n".join([*commands, f"make report RUN={run.name}"]), label="Commands that reproduce this run"),
            *(
                Code(text=text, label=f"Complete environment: {formats.listed(names)}", fold=True)
                for text, names in environments.items()
            ),
        ],
    )


def _command(run: Run, record: Study) -> str:
    """The make command of one record, with what it was made with."""
    kind, data = record.path.stem, record.data
    about = data["config"] if kind == "lockstep" else data
    given: dict[str, object] = {}
    if kind == "study":
        given = {"TRAIN": "native", "SEEDS": len(data["seeds"])}
    elif kind == "modes":
        given = {"MODES": ",".join(mode["mode"] for mode in data["modes"])}
    elif kind == "distributed":
        given = {"WORKERS": data["num_workers"]}
    given |= {"DATASET": about["dataset"]["name"], "OPTIMIZER": about["optimizer"]["name"]}
    given |= {"PRECISION": about["precision"], "PROFILE": about["profile"], "RUN": run.name}
    return " ".join(["make train", f"MODEL={record.model}", *(f"{name}={shlex.quote(str(v))}" for name, v in given.items())])


def _read(record: Study, get: Callable[[Study], T]) -> T:
    """`get(record)`; a malformed record becomes a CorruptError that names its file."""
    with reading(record.path, record.command):
        return get(record)
