"""What a converter raises becomes one line that says what is wrong, not where in a graph; what others raise is a fault."""

import errno
from types import SimpleNamespace

import pytest

from export import formats, writing
from export.writing import UnsupportedError, short
from faceoff.errors import FaceoffError

COMPILER = """<unknown>:0: error: loc(callsite(fused["X:"] at fused["Y:"])): 'tf.TensorListReserve' op requires a static shape
<unknown>:0: note: loc(fused["Y:"]): called from
<unknown>:0: note: loc(fused["Z
Lowering tensor list ops is failed."""
OURS = [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), FaceoffError("the archiver failed")]


def test_the_places_are_left_out_and_the_words_kept():
    said = short(ValueError(COMPILER))
    assert said == "ValueError: 'tf.TensorListReserve' op requires a static shape Lowering tensor list ops is failed."


def test_a_long_error_is_cut():
    assert len(short(RuntimeError("x" * 5000))) == 300


def rows(tmp_path, name, write):
    args = SimpleNamespace(model="cnn", version=1, out=tmp_path, only=name)
    return writing.write_rows(args, None, None, {name: write})


def converter(error, *, before=None):
    """A writer whose converter leaves half a file and raises `error`; `before` it our own code raises."""

    def write(model, trained, path, version):
        if before:
            raise before
        with writing.converting():
            path.write_bytes(b"half")
            raise error

    return write


@pytest.mark.parametrize("error", [ValueError("no such operator"), KeyError("aten::x"), ImportError("no backend")])
def test_what_a_converter_raises_is_unsupported_and_leaves_no_file(tmp_path, error):
    (row,) = rows(tmp_path, "tf-tflite", converter(error))
    assert (row["name"], row["status"], row["reason"]) == ("tf-tflite", "unsupported", short(error))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("error", OURS)
def test_a_full_disk_is_no_property_of_the_form(tmp_path, error):
    with pytest.raises(type(error)):
        rows(tmp_path, "tf-tflite", converter(error))


@pytest.mark.parametrize("error", [KeyError("module"), ImportError("tf2onnx"), *OURS])
def test_neither_is_a_mistake_of_ours_beside_the_converter(tmp_path, error):
    with pytest.raises(type(error)):
        rows(tmp_path, "tf-tflite", converter(None, before=error))


def test_a_default_row_that_its_converter_refuses_is_a_fault(tmp_path):
    assert formats.BY_NAME["tf-onnx"].default
    with pytest.raises(UnsupportedError, match="no such operator") as caught:
        rows(tmp_path, "tf-onnx", converter(ValueError("no such operator")))
    assert caught.value.exit_code == 1
