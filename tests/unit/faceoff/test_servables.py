"""faceoff.servables: what verify recorded goes with what is served; the precision of a file on disk."""

from pathlib import Path

import pytest

from faceoff import manifest, servables
from faceoff.store import Store

ROWS = (
    ("torch-mar", "mar-eager", "cnn.mar", "float32", 5e-5),
    ("torch-mar-bf16", "mar-eager-bf16", "cnn-bf16.mar", "bf16", 0.47),
)


def two_precisions(root: Path) -> Store:
    """A version with two archives, exported and verified as far as manifests say."""
    store = Store(artifacts=root / "artifacts", results=root / "results")
    store.model_dir("cnn").mkdir(parents=True)
    manifest.write(store.model_dir("cnn"), stage="train", model="cnn")
    directory = store.export_dir("cnn", 1)
    directory.mkdir(parents=True)
    exported, verified = [], []
    for name, form, path, precision, tolerance in ROWS:
        (directory / path).write_bytes(name.encode())
        row = servables.describe(directory, name=name, source="torch", kind=form, path=path, export_s=1.0)
        exported.append({**row, "precision": precision, "status": "exported"})
        verified.append({**row, "precision": precision, "status": "verified", "tolerance": tolerance})
    trained = manifest.sha256(store.model_dir("cnn") / manifest.NAME)
    manifest.write(directory, stage="export", model="cnn", inputs={"train": trained}, metrics={"artifacts": exported})
    proof = store.verify_dir("cnn", 1)
    proof.mkdir(parents=True)
    inputs = {"export": manifest.sha256(directory / manifest.NAME)}
    manifest.write(proof, stage="verify", model="cnn", inputs=inputs, metrics={"artifacts": verified})
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return two_precisions(tmp_path)


@pytest.mark.parametrize("row", ROWS)
def test_a_verified_servable_has_its_precision_and_tolerance(store, row):
    name, form, path, precision, tolerance = row
    found = servables.read_verified(store, "cnn", 1, form)
    assert (found.servable.name, found.precision, found.tolerance) == (name, precision, tolerance)
    assert found.path == store.export_dir("cnn", 1) / path


def test_the_precision_of_a_file_is_that_of_its_export(store, tmp_path):
    directory = store.export_dir("cnn", 1)
    assert servables.precision_of(directory / "cnn-bf16.mar") == "bf16"
    assert servables.precision_of(directory / "cnn.mar") == "float32"
    assert servables.precision_of(directory / "other.mar") is None
    assert servables.precision_of(tmp_path / "elsewhere" / "cnn.mar") is None
