"""The bytes in and out of a TorchServe worker, as plain Python: a bad request never fails its neighbours."""

import base64
import importlib.util
import io
import json

import numpy as np
import pytest

from tests.conftest import ROOT

SPEC = importlib.util.spec_from_file_location("wire", ROOT / "export" / "handlers" / "wire.py")
wire = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(wire)

INPUTS = [{"name": "images", "dtype": "float32", "shape": [2, 2, 1], "dynamic": []}]
OUTPUTS = [{"name": "logits", "dtype": "float32", "shape": [2]}]
TOKENS = [{"name": name, "dtype": "int32", "shape": [3], "dynamic": [0]} for name in ("ids", "mask")]
IDS, MASK = np.arange(6, dtype=np.int32).reshape(2, 3), np.ones((2, 3), np.int32)
ROWS = np.arange(12, dtype=np.float32).reshape(3, 2, 2, 1)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def document(rows):
    return {"instances": rows.tolist()}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"body": ROWS.tobytes()}, "raw"),
        ({"data": bytearray(ROWS.tobytes())}, "raw"),
        ({"data": ROWS.tobytes(), "body": None}, "raw"),
        ({"body": npy(ROWS)}, "npy"),
        ({"body": document(ROWS)}, "json"),
        ({"body": json.dumps(document(ROWS)).encode()}, "json"),
        ({"body": json.dumps(document(ROWS))}, "json"),
        ({"body": {"instances": [{"b64": base64.b64encode(row.tobytes()).decode()} for row in ROWS]}}, "json"),
        ({"body": {"instances": [{"images": row} for row in ROWS.tolist()]}}, "json"),
    ],
)
def test_every_form_of_the_same_rows_is_read_alike(row, kind):
    found, inputs = wire.parse(row, INPUTS, OUTPUTS)
    assert found == kind
    rows = inputs["images"]
    assert rows.dtype == np.float32
    assert np.array_equal(rows, ROWS)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "no body"),
        ({"body": b""}, "no body"),
        ({"body": b"123"}, "not whole rows"),
        ({"body": {"instances": [{"b64": "?"}]}}, "not base64"),
        ({"body": {"instances": [{"b64": 7}]}}, "not base64"),
        ({"body": {"instances": [{"b64": "AAAA"}]}}, "not whole rows"),
        ({"body": {"instances": [{"b64": base64.b64encode(ROWS.tobytes()).decode()}]}}, "1 rows of .* hold 3 rows"),
        ({"body": npy(ROWS[:, :1])}, "expected"),
        ({"body": npy(ROWS.astype(np.float64))}, "dtype"),
        ({"body": npy(np.array([object()]))[:40]}, "cannot be read"),
        ({"body": {"inputs": []}}, "instances"),
        ({"body": {"instances": []}}, "at least one row"),
        ({"body": {"instances": "x"}}, "at least one row"),
        ({"body": {"instances": [[1, 2], [3]]}}, "are not float32"),
        ({"body": {"instances": [[["a"]]]}}, "are not float32"),
        ({"body": {"instances": [{"a": 1, "b": 2}]}}, "an object of"),
        ({"body": {"instances": [{"pictures": ROWS[0].tolist()}]}}, "an object of"),
        ({"body": {"instances": [1.0, 2.0]}}, "expected"),
        ({"body": [1, 2]}, "instances"),
        # What TorchServe has read of a JSON body that is no object; 16 bytes are a row.
        ({"body": 1.5}, "instances"),
        ({"body": -1}, "instances"),
        ({"body": 16}, "instances"),
        ({"body": 10**15}, "instances"),
        ({"body": True}, "instances"),
        ({"body": None}, "no body"),
        ({"body": "\ud800"}, "not whole rows"),
        ({"body": b"[" * 99_999}, "not whole rows of 16 bytes"),
        ({"body": {"instances": [[[[None], [1]], [[2], [3]]]]}}, "are not float32"),
        ({"body": {"instances": [[[["1"], ["1"]], [["2"], ["3"]]]]}}, "are not float32"),
        ({"body": {"instances": [[[[True], [True]], [[True], [True]]]]}}, "are not float32"),
        ({"body": {"instances": [[[[2**70], ["1"]], [[2], [3]]]]}}, "are not float32"),
        ({"body": npy(ROWS).replace(b"(3, 2, 2, 1), }", b"(3000000000000,)")}, "cannot be read"),
    ],
)
def test_a_bad_request_is_named(row, words):
    with pytest.raises(wire.BadRequestError, match=words):
        wire.parse(row, INPUTS, OUTPUTS)


def test_a_number_of_any_size_is_a_float():
    _, found = wire.parse({"body": {"instances": [[[[1], [0.5]], [[2**70], [float("nan")]]]]}}, INPUTS, OUTPUTS)
    assert found["images"].dtype == np.float32
    assert np.array_equal(found["images"].ravel(), np.float32([1, 0.5, 2**70, np.nan]), equal_nan=True)


def test_raw_floats_that_begin_like_json_are_raw():
    rows = ROWS.copy()
    rows.view(np.uint8).reshape(-1)[0] = ord("{")
    kind, found = wire.parse({"body": rows.tobytes()}, INPUTS, OUTPUTS)
    assert kind == "raw"
    assert np.array_equal(found["images"], rows)


def test_answers_have_the_form_of_the_request():
    array = np.array([[0.1, -2.5e-7], [1e6, 16777216.0]], np.float32)
    answer = wire.render("json", {"logits": array})
    assert np.array_equal(np.asarray(json.loads(answer)["predictions"], np.float32), array)
    assert "0.1," in answer  # the shortest decimal of the float32, not of its double
    assert np.array_equal(np.load(io.BytesIO(wire.render("npy", {"logits": array}))), array)
    assert wire.render("raw", {"logits": array}) == array.tobytes()


def test_nan_is_written_bare_as_tf_serving_does():
    assert wire.render("json", {"logits": np.array([[np.nan, np.inf]], np.float32)}) == '{"predictions": [[NaN, Infinity]]}'


def test_an_error_is_tf_servings_shape():
    assert json.loads(wire.error_body('a "quote"')) == {"error": 'a "quote"'}


def tokens(ids, mask):
    return [{"ids": row, "mask": seen} for row, seen in zip(ids, mask, strict=True)]


@pytest.mark.parametrize("body", [IDS.tobytes() + MASK.tobytes(), {"instances": tokens(IDS.tolist(), MASK.tolist())}])
def test_several_inputs_come_one_after_the_other_or_by_name(body):
    _, found = wire.parse({"body": body}, TOKENS, OUTPUTS)
    assert np.array_equal(found["ids"], IDS)
    assert np.array_equal(found["mask"], MASK)
    assert {array.dtype.name for array in found.values()} == {"int32"}


def test_a_dynamic_axis_has_any_size_that_all_rows_share():
    _, found = wire.parse({"body": {"instances": tokens([[1, 2, 3, 4, 5]], [[1, 1, 1, 1, 0]])}}, TOKENS, OUTPUTS)
    assert found["ids"].shape == (1, 5)
    with pytest.raises(wire.BadRequestError, match="'ids'"):
        wire.parse({"body": {"instances": tokens([[1, 2], [1]], [[1, 1], [1, 1]])}}, TOKENS, OUTPUTS)


@pytest.mark.parametrize("value", [1.5, 2**31, True, "1"])
def test_an_integer_is_never_made_of_something_else(value):
    with pytest.raises(wire.BadRequestError, match="'ids' are not int32"):
        wire.parse({"body": {"instances": tokens([[value] * 3], [[1, 1, 1]])}}, TOKENS, OUTPUTS)


def test_one_array_cannot_be_two_inputs():
    with pytest.raises(wire.BadRequestError, match="holds one array"):
        wire.parse({"body": npy(IDS)}, TOKENS, OUTPUTS)


def test_several_outputs_are_objects_or_one_after_the_other():
    outputs = {"logits": np.array([[1.5], [2.5]], np.float32), "count": np.array([[7], [8]], np.int32)}
    answer = json.loads(wire.render("json", outputs))
    assert answer == {"predictions": [{"logits": [1.5], "count": [7]}, {"logits": [2.5], "count": [8]}]}
    assert wire.render("raw", outputs) == outputs["logits"].tobytes() + outputs["count"].tobytes()


class FakeDecoder:
    """Images of 2 x 2 whose bytes are `PNG` and a digit; what is read of a real one is tested in test_images.py."""

    signature_name = "serving_image"

    def begins(self, data):
        return data.startswith(b"PNG")

    def pixels(self, data):
        if not data.startswith(b"PNG"):
            raise ValueError("not an image")
        return np.full((2, 2, 1), float(data[3:]), np.float32)


def b64(*rows):
    return [{"b64": base64.b64encode(row).decode()} for row in rows]


@pytest.mark.parametrize(
    ("row", "kind", "values"),
    [
        ({"body": {"signature_name": "serving_image", "instances": b64(b"PNG1", b"PNG2")}}, "json", [1, 2]),
        ({"data": b"PNG7"}, "json", [7]),
        ({"image_1": b"PNG4", "image_0": b"PNG3"}, "raw", [3, 4]),
        ({f"image_{n}": b"PNG%d" % n for n in reversed(range(12))}, "raw", list(range(12))),
    ],
)
def test_encoded_images_are_rows_in_their_order(row, kind, values):
    found, rows = wire.parse(row, INPUTS, OUTPUTS, FakeDecoder())
    assert (found, rows["images"].dtype, rows["images"].shape[1:]) == (kind, np.float32, (2, 2, 1))
    assert rows["images"][:, 0, 0, 0].tolist() == values


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"body": {"signature_name": "serving_image", "instances": b64(b"PNG1", b"GIF")}}, "row 1: not an image"),
        ({"body": {"signature_name": "serving_image", "instances": [{"b64": "?"}]}}, "not base64"),
        ({"body": {"signature_name": "serving_image", "instances": [[1.0]]}}, "rows of images are"),
        ({"image_0": b"PNG1", "image_2": b"PNG2"}, "expected image_0 to image_1"),
        ({"image_0": b"GIF"}, "row 0: not an image"),
        ({"image_0": 1.5}, "row 0: expected the bytes"),
    ],
)
def test_a_bad_image_is_named(row, words):
    with pytest.raises(wire.BadRequestError, match=words):
        wire.parse(row, INPUTS, OUTPUTS, FakeDecoder())


def test_a_model_without_images_takes_the_same_bytes_as_numbers():
    row = {"body": {"signature_name": "serving_image", "instances": b64(ROWS[0].tobytes())}}
    assert np.array_equal(wire.parse(row, INPUTS, OUTPUTS)[1]["images"], ROWS[:1])
    with pytest.raises(wire.BadRequestError, match="not whole rows"):
        wire.parse({"body": b"PNG7"}, INPUTS, OUTPUTS)
