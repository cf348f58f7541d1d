"""What was compared and on what machine: the facts several sections need, each with a plain word where it is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from report import formats, identity
from report.measurements import Measurement
from report.records import Run, reading

UNKNOWN = "not recorded"


@dataclass(frozen=True, kw_only=True)
class Context:
    """The run at a glance. Names are ready to be shown."""

    model: str
    dataset: str
    servers: tuple[str, ...]  # keys, in the order of the page
    server_labels: tuple[str, ...]  # their names as shown
    created: str
    machine: str
    commit: str

    @property
    def embedded(self) -> bool:
        """Whether the embedded server's numbers are on the page."""
        return "tfserving-embedded" in self.servers


def of(run: Run, found: list[Measurement]) -> Context:
    """Collect the context from whichever records exist."""
    training = run.get("training") or {}
    with reading(run.path("training"), "make train"):
        dataset = training.get("config", {}).get("dataset", {}).get("name", UNKNOWN)
        model = training.get("model")
    if not model:
        model = run.summary.get("model") or next((m.get("model") for m in run.summary["measurements"]), UNKNOWN)
    environment = run.summary.get("environment") or training.get("environment") or {}
    labels = {m.server: m.series.label for m in found}
    keys = sorted(labels, key=identity.rank)
    git = environment.get("git") or {}
    commit = f"{str(git['commit'])[:12]}{' with local changes' if git.get('dirty') else ''}" if git.get("commit") else UNKNOWN
    return Context(
        model=str(model),
        dataset=str(dataset),
        servers=tuple(keys),
        server_labels=tuple(labels[key] for key in keys),
        created=_date(run),
        machine=machine(environment),
        commit=commit,
    )


def machine(environment: dict[str, Any]) -> str:
    """One line about the machine: `Intel Xeon, 2 of 2 cores usable, 7.8 GiB, no GPU`."""
    about = environment.get("machine") or {}
    if not about:
        return UNKNOWN
    gpus = [f"{gpu.get('name')} ({formats.size(gpu.get('memory_bytes'))})" for gpu in about.get("gpus") or []]
    return ", ".join(
        [
            str(about.get("cpu") or "CPU unknown"),
            f"{about.get('usable_cores', '?')} of {about.get('logical_cores', '?')} logical cores usable",
            f"{formats.size(about.get('memory_bytes'))} memory",
            formats.listed(gpus) if gpus else "no GPU",
        ]
    )


def _date(run: Run) -> str:
    """When the run was measured; without a date of its own, after which stage's end."""
    measured = run.summary.get("created")
    if measured:
        return _readable(str(measured))
    stamps = [record.get("created") for record in run.records.values() if isinstance(record, dict)]
    known = sorted(str(stamp) for stamp in stamps if stamp)
    return f"after {_readable(known[-1])}" if known else UNKNOWN


def _readable(stamp: str) -> str:
    try:
        return datetime.fromisoformat(stamp).strftime("%-d %B %Y, %H:%M %Z").strip(" ,")
    except ValueError:
        return stamp
