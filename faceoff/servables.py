"""The servables of an exported version: which there are, where they lie, what is known of each.

The names are what `--artifact` takes and what every table shows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from faceoff import golden, manifest
from faceoff.errors import CorruptError, MissingStageError, UsageError
from faceoff.manifest import Manifest
from faceoff.signature import Signature
from faceoff.store import Store


@dataclass(frozen=True, kw_only=True)
class Servable:
    """One exported artifact. `path` is relative to the export folder: a file, or a folder for a SavedModel."""

    name: str
    source: str  # torch | tf
    format: str
    path: str
    size_bytes: int
    export_s: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return {**asdict(self), "file": self.path}


def describe(directory: Path, *, name: str, source: str, kind: str, path: str, export_s: float) -> dict[str, Any]:
    """A Servable of what now lies at `directory`/`path`, as plain data."""
    target = directory / path
    files = [target] if target.is_file() else [p for p in target.rglob("*") if p.is_file()]
    size = sum(file.stat().st_size for file in files)
    return Servable(name=name, source=source, format=kind, path=path, size_bytes=size, export_s=export_s).to_dict()


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The trained instance that is exported: its manifest, checked files, signature and golden data."""

    directory: Path
    manifest: Manifest
    signature: Signature
    golden: golden.Golden

    @property
    def preset(self) -> dict[str, Any]:
        """The model's preset as it was when it was trained."""
        preset: dict[str, Any] = self.manifest.config["preset"]
        return preset


def read_trained(store: Store, model: str) -> Trained:
    """Read and check artifacts/<model>. Raises MissingStageError or CorruptError."""
    command = f"make train MODEL={model}"
    directory = store.model_dir(model)
    record = manifest.read(directory, stage="train", command=command)
    manifest.check_files(directory, record, command=command, only=("weights.npz", "golden"))
    signature = Signature.from_dict(record.config["signature"])
    return Trained(directory=directory, manifest=record, signature=signature, golden=golden.read(directory / "golden", signature))


def read_exported(store: Store, model: str, version: int) -> tuple[Path, Manifest, dict[str, Servable]]:
    """The export folder, its manifest and its servables by name, of the training that is on disk now.

    Raises MissingStageError, or CorruptError when the model was trained again since.
    """
    command = f"make export MODEL={model} VERSION={version}"
    directory = store.export_dir(model, version)
    record = manifest.read(directory, stage="export", command=command)
    trained = manifest.sha256(store.model_dir(model) / manifest.NAME)
    if record.inputs.get("train") != trained:
        raise CorruptError(f"{directory} was exported from another training of {model!r}; run again: {command}")
    known = [field.name for field in fields(Servable)]
    exported = [item for item in record.metrics["artifacts"] if item["status"] == "exported"]
    return directory, record, {item["name"]: Servable(**{name: item[name] for name in known}) for item in exported}


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A servable that may be served: where it lies, its precision, and the tolerance within which it has the golden outputs."""

    path: Path
    servable: Servable
    precision: str
    tolerance: float


def read_verified(store: Store, model: str, version: int, kind: str) -> Verified:
    """The one servable of format `kind`, verified and unchanged since.

    Raises MissingStageError when it was not exported or verified, UsageError when it was refused or cannot be had,
    CorruptError when a byte of it differs.
    """
    command = f"make verify MODEL={model} VERSION={version}"
    directory, exported, found = read_exported(store, model, version)
    proof = manifest.read(store.verify_dir(model, version), stage="verify", command=command)
    if proof.inputs.get("export") != manifest.sha256(directory / manifest.NAME):
        raise MissingStageError(f"{directory} was verified before it was exported again; run: {command}")
    matching = [servable for servable in found.values() if servable.format == kind]
    if not matching:
        for row in exported.metrics["artifacts"]:
            if row["format"] == kind and row["status"] == "unsupported":
                raise UsageError(f"{row['name']} of model {model!r} is unsupported: {row['reason']}; choose another artifact")
        raise MissingStageError(
            f"{directory} holds no {kind}; run: make export MODEL={model} VERSION={version} FORMATS=default,{kind}"
        )
    servable = matching[0]
    verdict = next(item for item in proof.metrics["artifacts"] if item["name"] == servable.name)
    if verdict["status"] != "verified":
        raise UsageError(f"{servable.name} is {verdict['status']}: {verdict['reason']}; reproduce: {verdict['reproduce']}")
    manifest.check_files(directory, exported, command=f"make export MODEL={model} VERSION={version}", only=(servable.path,))
    return Verified(
        path=directory / servable.path,
        servable=servable,
        precision=verdict["precision"],
        tolerance=float(verdict["tolerance"]),
    )


def precision_of(artifact: Path) -> str | None:
    """The precision of what lies at `artifact` in the export folder it is in; None where no export says."""
    for folder in artifact.parents:
        if (folder / manifest.NAME).is_file():
            record = manifest.read(folder, stage="export", command="make export")
            rows = [row for row in record.metrics["artifacts"] if folder / row["file"] == artifact]
            return str(rows[0]["precision"]) if rows else None
    return None
