"""REST Predict: bodies to named arrays, and named arrays to answers (TensorFlow Serving's json_tensor.cc).

`decode` has a fast path for plain numeric bodies and the ordinary one, `rest_decode`, for everything else; both
give the same arrays wherever the fast one does not decline (tests/unit/serving/embedded/test_rest_codec.py).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.embedded import dtypes, jsonout
from serving.embedded.errors import invalid
from serving.embedded.rest_decode import Request, SignatureLookup, decode_ordinary
from serving.embedded.rest_fast import decode_fast


def decode(body: bytes, find: SignatureLookup) -> Request:
    """A Predict request. `find` looks up the model and then the signature; its errors pass through. Raises ServingError."""
    request = decode_fast(body, find)
    return decode_ordinary(body, find) if request is None else request


def encode(outputs: Mapping[str, np.ndarray], *, row: bool) -> bytes:
    """The answer's body. Raises ServingError where the outputs have no rows to write."""
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    writer = jsonout.PrettyWriter()
    writer.start(array=False)
    if row:
        _encode_rows(outputs, writer)
    else:
        _encode_columns(outputs, writer)
    writer.end()
    return jsonout.encoded(writer.text())


def _encode_rows(outputs: Mapping[str, np.ndarray], writer: jsonout.PrettyWriter) -> None:
    num_rows = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if num_rows >= 0 and array.shape[0] != num_rows:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {num_rows}")
        num_rows = array.shape[0]
    named = len(outputs) > 1
    columns = [(name, texts(name, array), array.shape[1:], math.prod(array.shape[1:])) for name, array in outputs.items()]
    writer.key("predictions")
    writer.start(array=True)
    for row in range(num_rows):
        if named:
            writer.start(array=False)
        writer.single_line = True
        for name, column, shape, size in columns:
            if named:
                writer.key(name)
            _write(column[row * size : (row + 1) * size], shape, name, writer)
        writer.single_line = False
        if named:
            writer.end()
    writer.end()


def _encode_columns(outputs: Mapping[str, np.ndarray], writer: jsonout.PrettyWriter) -> None:
    writer.key("outputs")
    named = len(outputs) > 1
    if named:
        writer.start(array=False)
    for name, array in outputs.items():
        if named:
            writer.key(name)
        _write(texts(name, array), array.shape, name, writer)
    if named:
        writer.end()


def texts(name: str, array: np.ndarray) -> list[Any]:
    """JSON text of every element in order; of a `_bytes` string output the raw base64 text in a `_Base64`."""
    dtype = dtypes.by_numpy(array.dtype)
    flat = array.ravel().tolist()
    if dtype.is_string:
        items = [item if isinstance(item, bytes) else str(item).encode() for item in flat]
        if name.endswith("_bytes"):
            return [_Base64(base64.b64encode(item).decode()) for item in items]
        return [jsonout.string(item.decode("utf-8", "surrogateescape")) for item in items]
    if dtype.number == dtypes.DOUBLE:
        return jsonout.float64(flat)
    if dtype.number == dtypes.BOOL:
        return ["true" if item else "false" for item in flat]
    if array.dtype.kind in "iu":
        return [str(item) for item in flat]
    if dtype.number == dtypes.FLOAT or dtype.field == "half_val":
        return jsonout.float32(array.ravel().astype("f4").tolist())
    raise invalid(f"Failed to write JSON value for tensor type: {dtype.name}")


class _Base64(str):
    """Base64 text, which is written as an object rather than as a value."""

    __slots__ = ()


def _write(elements: list[str], shape: tuple[int, ...], name: str, writer: jsonout.PrettyWriter) -> None:
    if elements and isinstance(elements[0], _Base64):
        _write_base64(iter(elements), shape, writer)
    else:
        jsonout.nested(elements, shape, writer)


def _write_base64(elements: Any, shape: tuple[int, ...], writer: jsonout.PrettyWriter) -> None:
    if not shape:
        writer.start(array=False)
        writer.key("b64")
        writer.raw(f'"{next(elements)}"')
        writer.end()
        return
    writer.start(array=True)
    for _ in range(shape[0]):
        _write_base64(elements, shape[1:], writer)
    writer.end()


def error_body(message: str) -> bytes:
    """`{"error": …}` as the real server lays it out."""
    return jsonout.encoded('{\n    "error": ' + jsonout.string(message) + "\n}")
