"""What FORMATS may say, and the whole matrix."""

import pytest

from export import formats
from faceoff.store import Store
from tests.conftest import roots


def test_an_unknown_format_changes_nothing(run, exported):
    before = sorted(exported.export_dir("cnn", 1).rglob("*"))
    done = run("export.export", "--formats", "default,onix", *roots(exported))
    assert (done.code, done.result["status"]) == (2, "usage")
    assert "unknown format 'onix'" in done.result["error"]
    assert sorted(exported.export_dir("cnn", 1).rglob("*")) == before


def test_other_forms_than_the_servers_own_are_written_and_verified(run, exported, tmp_path):
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    store.artifacts.mkdir()
    (store.artifacts / "cnn").symlink_to(exported.artifacts.resolve() / "cnn")  # version 2 beside version 1
    chosen = "mar-torchscript,mar-pt2,mar-onnx,mar-tf-onnx,saved_model-xla,tflite"
    done = run("export.export", "--version", "2", "--formats", chosen, *roots(store))
    assert done.code == 0, done.stderr[-3000:]
    rows = {row["format"]: row for row in done.result["artifacts"]}
    assert sorted(rows) == sorted(chosen.split(","))
    for row in rows.values():
        assert (row["status"], row["model"], row["size_bytes"] > 0) == ("verified", "cnn", True)
        assert 0 < row["max_abs_difference"] <= row["tolerance"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model", ["cnn", "resnet8", "lstm", "gru", "transformer", "identity"])
def test_the_matrix_of_a_model_has_no_unexplained_gap(run, tmp_path, model):
    where = roots(Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results"))
    done = run("training.train", "--model", model, *where)
    assert done.code == 0, done.stderr[-3000:]
    done = run("export.export", "--model", model, "--formats", "all", *where, timeout_s=1200)
    assert [row["name"] for row in done.result["artifacts"]] == [row.name for row in formats.FORMATS]
    for row in done.result["artifacts"]:
        # Only a lower precision may be too coarse for a model; everything else computes it or says why it cannot be had.
        allowed = {"unsupported"} if row["precision"] == "float32" else {"unsupported", "refused"}
        assert row["status"] == "verified" or (row["status"] in allowed and row["reason"]), row
        assert {"model", "source", "format", "reason", "max_abs_difference", "size_bytes"} <= set(row)
    refused = [row["name"] for row in done.result["artifacts"] if row["status"] == "refused"]
    assert done.code == (1 if refused else 0)
    again = run("export.verify", "--model", model, *where, timeout_s=600)
    assert {row["name"]: row["status"] for row in again.result["artifacts"]} == {
        row["name"]: row["status"] for row in done.result["artifacts"]
    }
