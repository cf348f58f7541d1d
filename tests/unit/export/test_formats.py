"""The registry of formats: every row can be chosen, written, checked and judged, or says why not."""

import pytest

from export import export_executorch, export_tf, export_torch, formats
from faceoff import presets
from faceoff.errors import UsageError
from tests.conftest import ROOT


def test_the_default_is_what_both_servers_and_both_onnx_files_need():
    assert [row.name for row in formats.select("default")] == ["torch-mar", "torch-onnx", "tf-savedmodel", "tf-onnx"]
    assert formats.select("all") == list(formats.FORMATS)


def test_rows_and_formats_can_be_named_together():
    names = [row.name for row in formats.select("onnx, torch-mar-pt2")]
    assert names == ["torch-mar-pt2", "torch-onnx", "tf-onnx"]
    assert len(formats.select("default,mar-aoti")) == 5
    assert [row.name for row in formats.select("bf16")] == ["torch-mar-bf16", "tf-savedmodel-bf16"]


def test_a_lower_precision_is_there_on_both_sides_and_its_format_says_so():
    for precision in ("bf16", "float16", "int8"):
        rows = formats.select(precision)
        assert {row.source for row in rows} == {"torch", "tf"}
        assert all(row.format.endswith(f"-{precision}") for row in rows)
        assert formats.has_lower_precision([rows[0].name, "torch-onnx"])
    assert not formats.has_lower_precision(row.name for row in formats.select("float32"))


@pytest.mark.parametrize("text", ["onix", "default,onix"])
def test_an_unknown_format_is_named_with_the_known_ones(text):
    with pytest.raises(UsageError, match=r"unknown format .*: expected one of .*executorch.*FORMATS"):
        formats.select(text)


def test_names_and_files_are_different():
    assert len(formats.BY_NAME) == len(formats.FORMATS)
    assert len({row.path for row in formats.FORMATS}) == len(formats.FORMATS)


def test_every_row_has_a_writer_a_verifier_and_a_tolerance():
    written = {*export_torch.WRITERS, *export_tf.WRITERS, *export_executorch.WRITERS}
    for row in formats.FORMATS:
        assert presets.export().tolerance_factor(row.precision, row.format) > 0
        if row.name == "tf-tfjs":  # cannot be had beside this TensorFlow
            continue
        assert row.name in written
        for module in (row.writer, row.verifier):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
        for environment in filter(None, (row.environment, row.runtime)):
            assert (ROOT / "requirements" / f"formats-{environment}.txt").is_file()


def test_a_row_without_its_environment_says_which_command_makes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "ENVIRONMENTS", tmp_path)
    row = formats.BY_NAME["torch-executorch"]
    assert "make setup-formats" in formats.missing_environment(row)
    (tmp_path / "executorch").mkdir()
    (tmp_path / "executorch" / formats.NOT_HAD).write_text("a depends on b; no\n")
    assert formats.missing_environment(row) == "a depends on b; no"
    assert formats.missing_environment(formats.BY_NAME["torch-onnx"]) is None


def test_a_format_without_a_tolerance_is_named():
    with pytest.raises(UsageError, match=r"presets/export.yaml has no tolerance for 'coreml' in float32"):
        presets.export().tolerance_factor("float32", "coreml")


@pytest.mark.parametrize("text", ["onnx,onnx", "default, int8 ,default", ""])
def test_none_and_one_that_is_there_twice_are_refused(text):
    with pytest.raises(UsageError, match=r"FORMATS=.*: expected one or more different formats, of .*executorch"):
        formats.select(text)
