import io
import json

import numpy as np
import pytest
from PIL import Image

from faceoff.errors import UsageError
from faceoff.signature import Signature, TensorSpec, image_classifier
from serving import inputs

SIGNATURE = image_classifier((8, 8, 1), 10)
ROW = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8, 1)


def images(path):
    return inputs.read(str(path), SIGNATURE).arrays["images"]


def saved(tmp_path, name, write):
    path = tmp_path / name
    write(path)
    return path


def test_one_row_becomes_a_batch_of_one(tmp_path):
    path = saved(tmp_path, "row.npy", lambda p: np.save(p, ROW))
    assert np.array_equal(images(path), ROW[None])


def test_a_batch_of_another_float_type_is_converted(tmp_path):
    path = saved(tmp_path, "rows.npy", lambda p: np.save(p, np.stack([ROW, ROW]).astype(np.float64)))
    assert images(path).shape == (2, 8, 8, 1)


def test_tf_servings_json(tmp_path):
    path = saved(tmp_path, "rows.json", lambda p: p.write_text(json.dumps({"instances": [ROW.tolist()]})))
    assert np.allclose(images(path), ROW[None])


def test_a_picture_is_scaled_to_one(tmp_path):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    path = saved(tmp_path, "digit.png", lambda p: Image.fromarray(pixels).save(p))
    assert np.allclose(images(path)[0, ..., 0], pixels / 255.0)


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("missing.npy", None, "no such file"),
        ("x.txt", lambda p: p.write_text("1"), "expected one of"),
        ("x.npy", lambda p: p.write_bytes(b"no npy"), "cannot be read"),
        ("x.json", lambda p: p.write_text("{"), "cannot be read"),
        (
            "x.json",
            lambda p: p.write_text('{"rows": []}'),
            r"found 'rows', expected \{\"instances\": \[\.\.\.\]\}.* or a list of rows",
        ),
        ("x.json", lambda p: p.write_text("{}"), r"x\.json: found an empty table, expected \{\"instances\""),
        ("x.json", lambda p: p.write_text('{"inputs": 5}'), "found 'inputs', expected"),
        ("x.json", lambda p: p.write_text('{"instances": ["a"]}'), "expected numbers"),
        ("x.npy", lambda p: np.save(p, ROW[:4]), r"has shape \(4, 8, 1\): expected \(batch, 8, 8, 1\)"),
        ("x.npy", lambda p: np.save(p, np.zeros((0, 8, 8, 1), np.float32)), "no rows"),
        ("x.png", lambda p: Image.new("L", (9, 9)).save(p), "has shape"),
        ("x.png", lambda p: p.write_bytes(b"not a png"), r"x\.png cannot be read as \.png: found no picture in it, expected PNG"),
        ("x.png", lambda p: p.write_bytes(png()[:45]), r"x\.png cannot be read as \.png: "),
        ("x.png", lambda p: p.write_bytes(png()[:36] + b"\x01" + png()[37:]), r"x\.png cannot be read as \.png: "),
    ],
)
def test_a_bad_input_is_named_in_one_line(tmp_path, name, write, words):
    path = tmp_path / name
    if write:
        write(path)
    with pytest.raises(UsageError, match=words) as caught:
        images(path)
    assert "\n" not in str(caught.value)
    assert " object at 0x" not in str(caught.value)


def test_no_input_is_not_the_current_folder(tmp_path, monkeypatch):
    np.save(tmp_path / "row.npy", ROW)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="INPUT is empty: expected a file"):
        images("")


class Stdin:
    def __init__(self, data):
        self.buffer = io.BytesIO(data)


def png():
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 51).save(buffer, "png")
    return buffer.getvalue()


def npy():
    buffer = io.BytesIO()
    np.save(buffer, ROW)
    return buffer.getvalue()


@pytest.mark.parametrize(("data", "first"), [(png(), 0.2), (npy(), 0.0), (json.dumps([ROW.tolist()]).encode(), 0.0)])
def test_standard_input_is_told_apart_by_its_first_bytes(monkeypatch, data, first):
    monkeypatch.setattr("sys.stdin", Stdin(data))
    found = inputs.read("-", SIGNATURE)
    assert found.names == ("stdin",)
    assert found.arrays["images"].flat[0] == pytest.approx(first)


def test_bad_standard_input_is_a_users_mistake(monkeypatch):
    monkeypatch.setattr("sys.stdin", Stdin(b"{"))
    with pytest.raises(UsageError, match=r"INPUT=- cannot be read as \.json"):
        inputs.read("-", SIGNATURE)


def test_a_folder_is_all_its_inputs_by_name(tmp_path):
    np.save(tmp_path / "b.npy", np.stack([ROW, ROW]))
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "notes.txt").write_text("not an input")
    found = inputs.read(str(tmp_path), SIGNATURE)
    assert found.names == ("a.png", "b.npy[0]", "b.npy[1]")
    assert found.arrays["images"].shape == (3, 8, 8, 1)
    (tmp_path / "c.npy").write_bytes(b"broken")
    with pytest.raises(UsageError, match=r"c\.npy cannot be read"):
        inputs.read(str(tmp_path), SIGNATURE)


def test_an_empty_folder_is_a_users_mistake(tmp_path):
    with pytest.raises(UsageError, match="expected at least one"):
        inputs.read(str(tmp_path), SIGNATURE)


TOKENS = Signature(
    inputs=(TensorSpec(name="ids", dtype="int32", shape=(2,)), TensorSpec(name="mask", dtype="int32", shape=(2,))),
    outputs=SIGNATURE.outputs,
)


def test_several_inputs_are_named(tmp_path):
    ids = np.array([[1, 2], [3, 4]], np.int32)
    np.savez(tmp_path / "x.npz", ids=ids, mask=np.ones_like(ids))
    rows = [{"ids": row.tolist(), "mask": [1, 1]} for row in ids]
    (tmp_path / "x.json").write_text(json.dumps({"instances": rows}))
    (tmp_path / "y.json").write_text(json.dumps({"inputs": {"ids": ids.tolist(), "mask": [[1, 1], [1, 1]]}}))
    for name in ("x.npz", "x.json", "y.json"):
        found = inputs.read(str(tmp_path / name), TOKENS).arrays
        assert np.array_equal(found["ids"], ids)
        assert found["mask"].dtype == np.int32


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([[1, 2]], "expected an .npz or .json that names them"),
        ({"instances": [{"ids": [1, 2]}]}, "has no 'mask'"),
        ({"instances": [{"ids": [1, 2.5], "mask": [1, 1]}]}, "no int32"),
        ({"inputs": {"ids": [[1, 2]], "mask": [[1, 1], [1, 1]]}}, "different numbers of rows"),
        ({"instances": [{"ids": [1, 2], "mask": [1, 1], "more": 1}]}, "more"),
        ({"instances": [{"ids": [1, 2], "mask": [1, 1]}, {"ids": [1, 2]}]}, r"found a row of \['ids'\] beside one of"),
    ],
)
def test_inputs_that_are_missing_or_too_many_are_named(tmp_path, document, words):
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=words):
        inputs.read(str(tmp_path / "x.json"), TOKENS)
