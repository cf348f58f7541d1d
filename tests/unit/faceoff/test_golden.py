import numpy as np
import pytest

from faceoff import golden
from faceoff.errors import CorruptError, FaceoffError
from faceoff.golden import Golden, compare
from faceoff.signature import image_classifier

EXPECTED = {"logits": np.arange(20, dtype=np.float32).reshape(2, 10)}


def test_equal_within_the_tolerance():
    difference = compare({"logits": EXPECTED["logits"] + np.float32(0.5)}, EXPECTED, 0.5)
    assert difference.problem is None
    assert difference.max_abs == 0.5


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"logits": EXPECTED["logits"] + np.float32(0.6)}, "exceeds the tolerance"),
        ({"output_0": EXPECTED["logits"]}, "named"),
        ({"logits": EXPECTED["logits"][:1]}, "shape"),
        ({"logits": EXPECTED["logits"].astype(np.float64)}, "dtype"),
        ({"logits": np.full((2, 10), np.nan, np.float32)}, "NaN or Inf"),
        ({"logits": np.full((2, 10), np.inf, np.float32)}, "NaN or Inf"),
        ({"logits": EXPECTED["logits"][::-1].copy()}, "exceeds"),
    ],
)
def test_what_differs_is_named(found, words):
    assert words in compare(found, EXPECTED, 0.5).problem


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("found", [EXPECTED["logits"], np.full((2, 10), 1e30, np.float32)])
def test_what_is_expected_must_be_a_number_or_any_answer_would_be_right(value, found):
    expected = {"logits": EXPECTED["logits"].copy()}
    expected["logits"][1, 3] = value
    difference = compare({"logits": found}, expected, 0.5)
    assert difference.problem == "what is expected of 'logits' holds NaN or Inf"
    assert difference.max_abs == float("inf")


def test_golden_outputs_that_are_no_numbers_are_neither_written_nor_read(tmp_path):
    data = Golden(inputs={"images": np.zeros((2, 8, 8, 1), np.float32)}, outputs={"logits": np.full((2, 10), np.nan, np.float32)})
    with pytest.raises(FaceoffError, match="NaN or Inf"):
        golden.write(tmp_path / "new", data)
    assert not (tmp_path / "new").exists()
    golden.write(tmp_path, Golden(inputs=data.inputs, outputs=EXPECTED))
    np.savez(tmp_path / "outputs.npz", **data.outputs)
    with pytest.raises(CorruptError, match="'logits' holds NaN or Inf"):
        golden.read(tmp_path, image_classifier((8, 8, 1), 10))


def test_rows_wrap_round():
    data = Golden(inputs={"images": np.arange(5)}, outputs={"logits": np.arange(5) * 2})
    rows = data.rows(3, 4)
    assert rows.inputs["images"].tolist() == [3, 4, 0, 1]
    assert rows.outputs["logits"].tolist() == [6, 8, 0, 2]


def test_it_reads_back_and_must_fit_the_signature(tmp_path):
    data = Golden(inputs={"images": np.zeros((2, 8, 8, 1), np.float32)}, outputs=EXPECTED)
    golden.write(tmp_path, data)
    assert golden.read(tmp_path, image_classifier((8, 8, 1), 10)).num_rows == 2
    with pytest.raises(CorruptError, match="does not fit"):
        golden.read(tmp_path, image_classifier((28, 28, 1), 10))
    (tmp_path / "inputs.npz").write_bytes(b"no zip")
    with pytest.raises(CorruptError, match="cannot read"):
        golden.read(tmp_path, image_classifier((8, 8, 1), 10))
