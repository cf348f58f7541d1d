"""A stage's manifest: what it made, from what, under which configuration, on which machine.

It is written last, so its presence means the stage finished. Every later stage checks the sha256 of
each file before it uses any of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faceoff import environment
from faceoff.errors import CorruptError, MissingStageError
from faceoff.store import write_atomic

NAME = "manifest.json"
_NO_FILE = "no such file"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The record of one finished stage. `files` maps relative POSIX paths to sha256 hex digests."""

    stage: str
    model: str
    created: str
    inputs: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(
    directory: Path,
    *,
    stage: str,
    model: str,
    inputs: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
) -> Manifest:
    """Describe every file now under `directory` and write its manifest.json; returns the manifest."""
    files = {
        path.relative_to(directory).as_posix(): sha256(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path != directory / NAME
    }
    manifest = Manifest(
        stage=stage,
        model=model,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=inputs or {},
        files=files,
        config=config or {},
        environment=environment.record(),
        metrics=metrics or {},
    )
    write_atomic(directory / NAME, json.dumps(asdict(manifest), indent=2) + "\n")
    return manifest


def read(directory: Path, *, stage: str, command: str) -> Manifest:
    """The manifest of a finished `stage`.

    Raises MissingStageError, naming `command`, when there is none, and CorruptError when it cannot be read.
    """
    path = directory / NAME
    if not path.exists():
        raise MissingStageError(f"found no {path}: expected the result of stage {stage!r}; run: {command}")
    try:
        manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CorruptError(f"{path} is not a manifest ({error}); run again: {command}") from error
    if manifest.stage != stage:
        raise CorruptError(f"{path} is of stage {manifest.stage!r}, expected {stage!r}; run again: {command}")
    return manifest


def check_files(directory: Path, manifest: Manifest, *, command: str, only: Iterable[str] | None = None) -> None:
    """Compare files with their sha256s; `only` names some of them (a name stands for all files under it).

    What a later stage put beside them is its own. Raises CorruptError for a file that is missing, differs or was added under a
    name, and for a name that the manifest has nothing of.
    """
    names = sorted({name.split("/")[0] for name in manifest.files}) if only is None else only
    for name in names:
        expected = {file: digest for file, digest in manifest.files.items() if file == name or file.startswith(f"{name}/")}
        place = directory / name
        if not expected:
            raise CorruptError(f"{place} is nothing that {manifest.stage} wrote, by its manifest; run again: {command}")
        paths = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
        found = {path.relative_to(directory).as_posix(): sha256(path) for path in paths}
        for file in sorted(expected.keys() | found.keys()):
            is_there, should_be = found.get(file, _NO_FILE), expected.get(file, _NO_FILE)
            if is_there != should_be:
                raise CorruptError(
                    f"{directory / file} is not what {manifest.stage} wrote: sha256 {is_there[:16]}, expected {should_be[:16]}; "
                    f"run again: {command}"
                )
