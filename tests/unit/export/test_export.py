"""What an export says that it will remove, before it does."""

from export import export, formats
from faceoff import manifest


def earlier(directory, *names):
    rows = [{"name": name, "status": "exported"} for name in names] + [{"name": "tf-tfjs", "status": "unsupported"}]
    directory.mkdir()
    manifest.write(directory, stage="export", model="cnn", metrics={"artifacts": rows})


def test_forms_that_are_not_written_again_are_named(tmp_path):
    earlier(tmp_path / "1", "torch-mar", "torch-onnx", "tf-tflite")
    said = export.replacing(tmp_path / "1", formats.select("onnx"), "onnx")
    assert said.startswith(f"export: {tmp_path / '1'} holds an earlier export; it and its verification will be replaced")
    assert said.endswith("; FORMATS=onnx is without torch-mar, tf-tflite, which it holds (VERSION= keeps both)")


def test_nothing_is_lost_where_all_is_written_again_or_nothing_is_of_use(tmp_path):
    earlier(tmp_path / "1", "torch-mar")
    assert export.replacing(tmp_path / "1", formats.select("default"), "default").endswith("when this one is written")
    (tmp_path / "1" / "manifest.json").write_text("{")
    assert export.replacing(tmp_path / "1", formats.select("onnx"), "onnx").endswith("when this one is written")
