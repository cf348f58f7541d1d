import json
import shutil

import pytest

from faceoff import manifest
from faceoff.errors import CorruptError, MissingStageError


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.bin").write_bytes(b"\x00" * 64)
    (tmp_path / "other.txt").write_text("x")
    manifest.write(tmp_path, stage="train", model="cnn", config={"seed": 1}, metrics={"accuracy": 0.9})
    return tmp_path


def test_it_names_every_file_but_itself_and_reads_back(stage):
    record = manifest.read(stage, stage="train", command="make train")
    assert sorted(record.files) == ["other.txt", "sub/weights.bin"]
    assert record.config == {"seed": 1}
    assert record.environment["packages"]["numpy"]
    manifest.check_files(stage, record, command="make train")


def test_one_changed_byte_is_found(stage):
    record = manifest.read(stage, stage="train", command="make train")
    data = bytearray((stage / "sub" / "weights.bin").read_bytes())
    data[10] ^= 1
    (stage / "sub" / "weights.bin").write_bytes(data)
    with pytest.raises(CorruptError, match=r"weights\.bin.*sha256.*run again: make train"):
        manifest.check_files(stage, record, command="make train")
    manifest.check_files(stage, record, command="make train", only=["other.txt"])
    with pytest.raises(CorruptError):
        manifest.check_files(stage, record, command="make train", only=["sub"])


def test_a_missing_file_is_found(stage):
    record = manifest.read(stage, stage="train", command="make train")
    (stage / "other.txt").unlink()
    with pytest.raises(CorruptError, match="no such file"):
        manifest.check_files(stage, record, command="make train")


def test_a_missing_folder_is_found(stage):
    record = manifest.read(stage, stage="train", command="make train")
    shutil.rmtree(stage / "sub")
    with pytest.raises(CorruptError, match=r"sub/weights\.bin .*no such file"):
        manifest.check_files(stage, record, command="make train")


@pytest.mark.parametrize("only", [None, ["sub"]])
def test_an_added_file_is_found_where_files_are_looked_for(stage, only):
    record = manifest.read(stage, stage="train", command="make train")
    (stage / "verify").mkdir()
    (stage / "verify" / "manifest.json").write_text("{}")  # a later stage's
    manifest.check_files(stage, record, command="make train", only=only)
    (stage / "sub" / "more.bin").write_bytes(b"x")
    with pytest.raises(CorruptError, match=r"more\.bin .*expected no such file; run again: make train"):
        manifest.check_files(stage, record, command="make train", only=only)
    manifest.check_files(stage, record, command="make train", only=["other.txt"])


def test_a_name_that_the_manifest_has_nothing_of_is_no_check(stage):
    record = manifest.read(stage, stage="train", command="make train")
    with pytest.raises(CorruptError, match=r"su is nothing that train wrote"):
        manifest.check_files(stage, record, command="make train", only=["sub", "su"])


def test_no_manifest_names_the_command(tmp_path):
    with pytest.raises(MissingStageError, match="run: make export"):
        manifest.read(tmp_path, stage="export", command="make export")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"stage": "train"}), json.dumps({"stage": "x", "nope": 1})])
def test_an_unreadable_manifest_is_corrupt(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CorruptError):
        manifest.read(tmp_path, stage="train", command="make train")


def test_a_manifest_of_another_stage_is_refused(stage):
    with pytest.raises(CorruptError, match="expected 'export'"):
        manifest.read(stage, stage="export", command="make export")
