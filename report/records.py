"""The records of one run, as they lie under results/<run>/. Nothing outside that folder is read.

A record that is not there is None: its section then says what is missing and which command makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceoff.errors import CorruptError, FaceoffError, MissingStageError

# record -> (file under records/, the command that makes it, its JSON type)
RECORDS: dict[str, tuple[str, str, type]] = {
    "training": ("training.json", "make train", dict),
    "train_torch": ("train_torch.json", "make train", dict),
    "train_tf": ("train_tf.json", "make train", dict),
    "export": ("export.json", "make export", dict),
    "verify": ("verify.json", "make verify", dict),
    "endpoints": ("endpoints.json", "make deploy", list),
    "parity": ("parity.json", "make deploy", dict),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run's folder, its summary and those of its records that exist."""

    name: str
    directory: Path
    summary: dict[str, Any]
    records: dict[str, Any]

    def get(self, record: str) -> Any:
        """The record, or None when it is missing."""
        return self.records.get(record)

    def path(self, record: str) -> Path:
        """Where the record lies, or should."""
        return self.directory / "records" / RECORDS[record][0]

    def missing(self, record: str) -> str:
        """The sentence that stands where a missing record would."""
        file, command, _ = RECORDS[record]
        return f"`records/{file}` is not in this run. `{command}` makes it; `make loadtest RUN={self.name}` then takes it along."


def load(name: str, directory: Path) -> Run:
    """Read a run; one that only trained has an empty summary and no records.

    Raises MissingStageError when there is neither summary.json nor a training, CorruptError for a file that is not what
    it should be.
    """
    path = directory / "summary.json"
    command = f"make loadtest RUN={name}"
    if not path.is_file() and any(directory.glob("training/*/*/*.json")):
        return Run(name=name, directory=directory, summary={}, records={})
    if not path.is_file():
        raise MissingStageError(f"found no {path}: expected the summary of a load test; run: {command}")
    summary = _read(path, dict, command)
    with reading(path, command):
        if not isinstance(summary["measurements"], list):
            raise TypeError("'measurements' is not a list")
    records = {}
    for record, (file, record_command, kind) in RECORDS.items():
        record_path = directory / "records" / file
        if record_path.is_file():
            records[record] = _read(record_path, kind, record_command)
    return Run(name=name, directory=directory, summary=summary, records=records)


def optional(path: Path, kind: type, command: str) -> Any:
    """The JSON of a record that a run need not have; None where it is not there."""
    return _read(path, kind, command) if path.is_file() else None


@contextmanager
def reading(path: Path, command: str) -> Iterator[None]:
    """Turn what a malformed record does to code that reads it into a CorruptError that names the file."""
    try:
        yield
    except FaceoffError:
        raise
    except KeyError as error:
        raise CorruptError(f"{path} has no {error.args[0]!r}; run again: {command}") from error
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise CorruptError(f"{path} is not as expected ({error}); run again: {command}") from error


def _read(path: Path, kind: type, command: str) -> Any:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptError(f"cannot read {path}: {error}; run again: {command}") from error
    if not isinstance(data, kind):
        raise CorruptError(f"{path} holds a {type(data).__name__}, expected a {kind.__name__}; run again: {command}")
    return data
