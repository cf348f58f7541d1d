from __future__ import annotations

import numpy as np
import pytest

from serving import tfs_stubs as tfs
from serving.embedded import dtypes, tensors
from serving.embedded.errors import Code, ServingError
from serving.embedded.model import as_array


def proto(dtype: int, shape: list[int], **fields: object) -> object:
    message = tfs.tensor_pb2.TensorProto(dtype=dtype, **fields)  # type: ignore[arg-type]
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (proto(1, [4], float_val=[1.0]), [1, 1, 1, 1]),
        (proto(1, [3], float_val=[1, 2]), [1, 2, 2]),
        (proto(1, [2]), [0, 0]),
        (proto(1, [1], float_val=[1, 2, 3]), [1]),
        (proto(1, [1], float_val=[9], tensor_content=np.float32(1).tobytes()), [1]),
        (proto(1, [0]), []),
        (proto(4, [2], int_val=[256, -1]), [0, 255]),
        (proto(9, [1], int64_val=[-(2**63)]), [-(2**63)]),
        (proto(10, [2], bool_val=[True]), [True, True]),
        (proto(10, [3], tensor_content=b"\xff\x00\x02"), [True, False, True]),
        (proto(7, [2], string_val=[b"a", b"\xff"]), [b"a", b"\xff"]),
        (proto(7, [2]), [b"", b""]),
        (proto(7, [2], tensor_content=b"\x01\x02abb"), [b"a", b"bb"]),
        (proto(19, [2], half_val=[0x3C00, 0xC000]), [1.0, -2.0]),
    ],
)
def test_lists_repeat_their_last_value_and_are_cut(message: object, values: list[object]) -> None:
    assert tensors.to_numpy(message, "x").tolist() == values


def test_a_scalar_has_no_dimensions() -> None:
    assert tensors.to_numpy(proto(1, [], float_val=[2.5]), "x").shape == ()


@pytest.mark.parametrize(
    "message",
    [
        proto(0, [1]),
        proto(1, [-1], float_val=[1]),
        proto(1, [2], tensor_content=b"\0\0\x80?"),
        proto(1, [1], tensor_content=b"\0" * 8),
        proto(1, [1 << 40], float_val=[1]),
        proto(1, [0, 1 << 62]),
        proto(1, [0, 1 << 40, 1 << 40]),
        proto(1, [0, 2**63 - 1]),
        proto(1, [1 << 62, 1 << 62, 0]),
        proto(7, [1 << 62, 1 << 62, 0]),
        proto(1, [1] * 255, float_val=[1]),
        proto(7, [2], tensor_content=b"\x05abc"),
        proto(20, [1]),
    ],
)
def test_what_is_no_tensor_names_the_input(message: object) -> None:
    with pytest.raises(ServingError) as error:
        tensors.to_numpy(message, "alias")
    assert (error.value.code, error.value.message) == (Code.INVALID_ARGUMENT, "tensor parsing error: alias")


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    text = np.empty((2, 2), object)
    text[:] = [[b"", b"a"], [b"\xff" * 300, b"\n"]]
    found = [text, rng.random((0, 3)).astype("f4"), np.array(1.5, "f4"), np.zeros((2, 0), "f8")]
    for code in ("f4", "f8", "i4", "u1", "i2", "i1", "i8", "?", "u2", "u4", "u8", "f2", "c8", "c16"):
        for shape in ((3,), (2, 3, 1), (1, 200), ()):
            values = rng.integers(0, 2 if code == "?" else 100, shape)
            found.append(np.asarray(values).astype(code))
    return found


@pytest.mark.parametrize("as_content", [False, True])
def test_the_fast_writer_gives_the_bytes_of_the_ordinary_one(as_content: bool) -> None:
    for array in arrays():
        assert tensors.from_numpy(array, as_content=as_content) == tensors.ordinary_from_numpy(array, as_content=as_content)


def test_a_bool_of_any_byte_is_written_as_0_or_1() -> None:
    array = tensors.to_numpy(proto(10, [2], tensor_content=b"\xff\x00"), "x")
    message = tfs.tensor_pb2.TensorProto.FromString(tensors.from_numpy(array))
    assert list(message.bool_val) == [True, False]


@pytest.mark.parametrize("as_content", [False, True])
def test_what_is_written_reads_back(as_content: bool) -> None:
    for array in arrays():
        message = tfs.tensor_pb2.TensorProto.FromString(tensors.from_numpy(array, as_content=as_content))
        back = tensors.to_numpy(message, "x")
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert back.tolist() == array.tolist()


def test_bfloat16_is_known() -> None:
    bfloat16 = dtypes.by_number(14)
    assert bfloat16 is not None
    assert dtypes.by_numpy(bfloat16.numpy) is bfloat16


def test_a_scalar_string_that_comes_as_bytes_is_an_array_of_strings() -> None:
    array = as_array(b"abc")
    assert (array.shape, array.item()) == ((), b"abc")
    assert tensors.from_numpy(array) == tensors.ordinary_from_numpy(array)
    assert as_array(np.float32(1)).shape == ()
