"""TensorProto to numpy and back, by TensorFlow's rules rather than by tf.make_ndarray's.

In (Tensor::FromProto): tensor_content wins over the typed lists and must have exactly the right length; a short
list repeats its last value, none at all gives zeros, a long one is cut. Out (Tensor::AsProtoField): every value in
the typed list; or with --enable_serialization_as_tensor_content all in tensor_content.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from serving.embedded import dtypes
from serving.embedded.dtypes import DType
from serving.embedded.errors import Code, ServingError, invalid

MAX_RANK = 254  # TensorShape::MaxDimensions
NUMPY_RANK = 64  # dimensions a numpy array can have
MAX_BYTES = 2**31  # of one tensor that a few bytes of request can ask for

# field number and wire type 2 (length-delimited) in tensor.proto
_FLOAT_VAL, _DOUBLE_VAL, _BOOL_VAL, _TENSOR_CONTENT = b"\x2a", b"\x32", b"\x5a", b"\x22"
_PACKED = {dtypes.FLOAT: _FLOAT_VAL, dtypes.DOUBLE: _DOUBLE_VAL, dtypes.BOOL: _BOOL_VAL}


def to_numpy(proto: Any, alias: str) -> np.ndarray:
    """The array of one input. Raises ServingError `tensor parsing error: <alias>`."""
    dtype = dtypes.by_number(proto.dtype)
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    wrong = invalid(f"tensor parsing error: {alias}")
    if dtype is None or proto.tensor_shape.unknown_rank or len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise wrong
    count = math.prod(shape)
    if count * dtype.numpy.itemsize > MAX_BYTES:
        raise wrong
    flat = _from_content(proto.tensor_content, count, dtype) if proto.tensor_content else None
    if proto.tensor_content and flat is None:
        raise wrong
    if len(shape) > NUMPY_RANK:
        raise ServingError(Code.UNIMPLEMENTED, f"tensors of more than {NUMPY_RANK} dimensions are not supported")
    if flat is None:
        flat = _filled(_listed(proto, dtype), count, dtype)
    try:
        return flat.reshape(shape)
    except ValueError:  # no elements, and the other dimensions too large for numpy (for TensorFlow too, from 2**63 on)
        raise wrong from None


def _from_content(content: bytes, count: int, dtype: DType) -> np.ndarray | None:
    """The elements in `tensor_content`, or None where it has not exactly the bytes of `count` of them."""
    if dtype.is_string:
        return _strings_from_content(content, count)
    if len(content) != count * dtype.numpy.itemsize:
        return None
    if dtype.number == dtypes.BOOL:
        truth: np.ndarray = np.frombuffer(content, "u1") != 0  # other bytes than 0 and 1 would make an unreadable answer
        return truth
    return np.frombuffer(content, dtype.numpy)


def _listed(proto: Any, dtype: DType) -> np.ndarray:
    values = getattr(proto, dtype.field)
    if dtype.is_string:
        array = np.empty(len(values), object)
        array[:] = list(values)
        return array
    if dtype.field == "half_val":
        return np.array(values, "<u4").astype("<u2").view(dtype.numpy)
    if dtype.field in ("scomplex_val", "dcomplex_val"):
        part = np.array(values, "<f4" if dtype.field == "scomplex_val" else "<f8")
        return part[: len(part) // 2 * 2].view(dtype.numpy)
    if dtype.field == "int_val":
        return np.array(values, "<i4").astype(dtype.numpy)  # uint8 and its like wrap, as a C cast does
    return np.array(values, dtype.numpy)


def _filled(values: np.ndarray, count: int, dtype: DType) -> np.ndarray:
    if len(values) >= count:
        return values[:count]
    result = np.empty(count, dtype.numpy)
    result[: len(values)] = values
    result[len(values) :] = values[-1] if len(values) else (b"" if dtype.is_string else 0)
    return result


def _strings_from_content(content: bytes, count: int) -> np.ndarray | None:
    """DecodeStringList: `count` varint lengths, then the bytes of all."""
    sizes, at = [], 0
    for _ in range(count):
        size, at = _read_varint(content, at)
        if at < 0:
            return None
        sizes.append(size)
    result = np.empty(count, object)
    for index, size in enumerate(sizes):
        result[index] = content[at : at + size]
        at += size
    return result if at == len(content) else None


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 35:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    return 0, -1


@lru_cache(maxsize=1024)
def varint(value: int) -> bytes:
    """Protobuf's base-128 varint of a value that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(tag: bytes, payload: bytes) -> bytes:
    """A length-delimited field."""
    return tag + varint(len(payload)) + payload


def from_numpy(array: np.ndarray, *, as_content: bool = False) -> bytes:
    """A serialized TensorProto: dtype, shape and every value.

    Floats, doubles and bools are written straight from the array's memory (their packed form is the same bytes);
    the rest goes through protobuf. `ordinary_from_numpy` is the slow way that gives the same bytes for all.
    """
    dtype = dtypes.by_numpy(array.dtype)
    tag = _TENSOR_CONTENT if as_content and not dtype.is_string else _PACKED.get(dtype.number)
    if tag is None:
        return ordinary_from_numpy(array, as_content=as_content)
    before = head(array)
    return before + field(tag, array.tobytes()) if array.size else before


def head(array: np.ndarray) -> bytes:
    """A serialized TensorProto up to its values: type and shape."""
    return _head(dtypes.by_numpy(array.dtype).number, array.shape)


@lru_cache(maxsize=1024)
def _head(number: int, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(field(b"\x12", b"\x08" + varint(size) if size else b"") for size in shape)
    return b"\x08" + varint(number) + field(b"\x12", dims)


def ordinary_from_numpy(array: np.ndarray, *, as_content: bool = False) -> bytes:
    """`from_numpy` by way of a TensorProto message, for every type."""
    from serving import tfs_stubs as tfs

    dtype = dtypes.by_numpy(array.dtype)
    proto = tfs.tensor_pb2.TensorProto(dtype=dtype.number)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if as_content:
        proto.tensor_content = _content(array, dtype)
    elif dtype.is_string:
        proto.string_val.extend(as_bytes(item) for item in array.ravel())
    elif dtype.field == "half_val":
        proto.half_val.extend(array.ravel().view("<u2").tolist())
    elif dtype.field in ("scomplex_val", "dcomplex_val"):
        part = "<f4" if dtype.field == "scomplex_val" else "<f8"
        getattr(proto, dtype.field).extend(array.ravel().view(part).tolist())
    else:
        getattr(proto, dtype.field).extend(array.ravel().tolist())
    return bytes(proto.SerializeToString(deterministic=True))


def _content(array: np.ndarray, dtype: DType) -> bytes:
    if not dtype.is_string:
        return array.tobytes()
    items = [as_bytes(item) for item in array.ravel()]
    return b"".join(varint(len(item)) for item in items) + b"".join(items)


def as_bytes(item: Any) -> bytes:
    """A string element; TensorFlow hands out bytes, and str from some numpy paths."""
    return item if isinstance(item, bytes) else str(item).encode()
