"""The training records of a run over several models: results/<run>/training/<model>/<kind>/<kind>.json, as its
stages wrote them.

Any of them may be missing; a file that is not what it should be is a CorruptError that names it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceoff.errors import CorruptError
from report.records import Run

# kind -> the command that makes its file
KINDS = {
    "lockstep": "make train MODEL={model} RUN={run}",
    "study": "make train MODEL={model} TRAIN=native RUN={run}",
    "modes": "make train MODEL={model} MODES=default RUN={run}",
    "distributed": "make train MODEL={model} WORKERS=2 RUN={run}",
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """One record of one model."""

    model: str
    path: Path
    command: str
    data: dict[str, Any]


def load(run: Run, kind: str) -> list[Study]:
    """All records of `kind` in the run, by the models' names."""
    found = []
    for path in sorted((run.directory / "training").glob(f"*/{kind}/{kind}.json")):
        model = path.parent.parent.name
        command = KINDS[kind].format(model=model, run=run.name)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CorruptError(f"cannot read {path}: {error}; run again: {command}") from error
        if not isinstance(data, dict):
            raise CorruptError(f"{path} holds a {type(data).__name__}, expected a dict; run again: {command}")
        found.append(Study(model=model, path=path, command=command, data=data))
    return found


def optimizer(recipe: dict[str, Any]) -> str:
    """A recipe in a few words: `Adam, rate 0.002`."""
    label = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}.get(recipe["name"], recipe["name"])
    return f"{label}, rate {recipe['learning_rate']:g}"
