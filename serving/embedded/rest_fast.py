"""The fast path of REST Predict: bodies of plain numbers, by orjson and numpy; it declines all others.

A body is taken only where orjson and RapidJSON read the same numbers from it. Two forms:
- bare: one key with nested arrays of numbers. The skeleton of brackets and commas is compared with the one of
  the shape it begins with, the brackets become blanks, and what is left is one flat list: no nested lists at all.
  That list has one number between any two commas; that it stands within the brackets there is looked at as well.
- named: rows or columns of objects, parsed as they are.
Both give what `rest_decode` gives (tests/unit/serving/embedded/test_rest_codec.py compares them on generated bodies),
except that a float32 comes from the correctly rounded double rather than from RapidJSON's, which may be one unit
in the last place of a double away, and that a zero with an exponent RapidJSON finds too big (`0e999`) is read as zero.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from serving.embedded import dtypes
from serving.embedded.rest_decode import INT32_RANGE, Request, SignatureLookup, flushed
from serving.embedded.signature import TensorInfo
from serving.embedded.tensors import NUMPY_RANK

_KNOWN_KEYS = {"instances", "inputs", "signature_name"}
_BLANKS = b" \t\r\n"
_BARE = re.compile(
    rb'[ \t\r\n]*\{[ \t\r\n]*(?:"signature_name"[ \t\r\n]*:[ \t\r\n]*"([^"\\\x00-\x1f]*)"[ \t\r\n]*,[ \t\r\n]*)?'
    rb'"(instances|inputs)"[ \t\r\n]*:'
)
_BLANKED = bytes.maketrans(b"[]", b"  ")
_NUMBER_BYTES = b"0123456789.eE+-" + _BLANKS
# Of two bytes side by side, the lower bits of the first have a bit in common with the upper bits of the second for just
# `[]`, `[,` and `,]`, where a number is missing. All other bytes are 0.
_SIDES = bytes({ord("["): 0b00_11, ord(","): 0b10_01, ord("]"): 0b01_00}.get(byte, 0) for byte in range(256))
_MAX_CACHED_SKELETON = 1 << 20


def decode_fast(body: bytes, find: SignatureLookup) -> Request | None:
    """The request, or None where only the ordinary path will do. Errors of `find` pass through."""
    return _decode_bare(body, find) or _decode_named(body, find)


def _decode_bare(body: bytes, find: SignatureLookup) -> Request | None:
    match = _BARE.match(body)
    if match is None:
        return None
    rest = body[match.end() :].rstrip(_BLANKS)
    if b'"' in rest or rest[-1:] != b"}":
        return None
    value = rest[:-1]
    shape = _shape(value.translate(None, _NUMBER_BYTES))
    if shape is None or _lacks_a_number(value):
        return None
    try:
        name = (match[1] or b"").decode()
        numbers = orjson.loads(b"[" + value.translate(_BLANKED) + b"]")
    except ValueError:
        return None
    signature = find(name)
    if len(signature.inputs) != 1:
        return None
    alias, info = next(iter(signature.inputs.items()))
    if info.dtype_number == dtypes.FLOAT and numbers:
        array: np.ndarray | None = flushed(np.array(numbers, "f8"), info.dtype)  # the skeleton let only numbers through
    else:
        array = _fast_array(numbers, info)
    if array is None:
        return None
    return Request(signature=signature, inputs={alias: array.reshape(shape)}, row=match[2] == b"instances")


def _lacks_a_number(value: bytes) -> bool:
    """Whether `[]`, `[,` or `,]` is there, blanks aside. All bytes at once, as one integer: much faster than a search."""
    sides = int.from_bytes(value.translate(_SIDES, _BLANKS), "big")
    return sides >> 8 & sides >> 2 != 0


def _shape(skeleton: bytes) -> tuple[int, ...] | None:
    """The shape of arrays whose brackets and commas are `skeleton`, or None where they are not one tensor of numbers."""
    rank = len(skeleton) - len(skeleton.lstrip(b"["))
    if rank > NUMPY_RANK:
        return None  # before the work that grows with its square
    sizes: list[int] = []
    inner = 0  # length of one element's skeleton
    for level in range(rank):
        end = skeleton.find(b"]" * (level + 1))
        if end < 0:
            return None
        length = end + level + 1 - (rank - 1 - level)  # of the first array at this level
        sizes.append((length - 1) // (inner + 1))
        if level == 0:
            sizes[0] = length - 1
        inner = length
    shape = tuple(reversed(sizes))
    if not rank or min(shape) < 1:
        return None
    made = _skeleton(shape) if len(skeleton) <= _MAX_CACHED_SKELETON else _skeleton.__wrapped__(shape)
    return shape if made == skeleton else None


@lru_cache(maxsize=32)
def _skeleton(shape: tuple[int, ...]) -> bytes:
    text = b"[" + b"," * (shape[-1] - 1) + b"]"
    for size in reversed(shape[:-1]):
        text = b"[" + b",".join([text] * size) + b"]"
    return text


def _decode_named(body: bytes, find: SignatureLookup) -> Request | None:
    """Bodies where every leaf is a plain number of a float32 or integer input; None declines.

    It must decline whatever orjson and numpy would read otherwise than RapidJSON: strings and booleans among
    the leaves, duplicate keys (orjson keeps the last), escapes, float64 (rounding), all that is not strict JSON.
    Quotation marks are counted for that: there must be no more than the keys that came out account for.
    """
    if b"\\" in body or b"true" in body or b"false" in body:
        return None
    try:
        document = orjson.loads(body)
    except ValueError:
        return None
    if type(document) is not dict or not document.keys() <= _KNOWN_KEYS or ("instances" in document) == ("inputs" in document):
        return None
    name = document.get("signature_name", "")
    if type(name) is not str:
        return None
    strings = len(document) + ("signature_name" in document)
    row = "instances" in document
    value = document["instances" if row else "inputs"]
    signature = find(name)
    if row and type(value) is list and value and type(value[0]) is dict:
        keys = signature.inputs.keys()
        if not all(type(element) is dict and element.keys() == keys for element in value):
            return None
        strings += len(keys) * len(value)
        columns = {key: [element[key] for element in value] for key in keys}
    elif not row and type(value) is dict:
        if value.keys() != signature.inputs.keys():
            return None
        strings += len(value)
        columns = value
    elif len(signature.inputs) == 1 and type(value) is list and value:
        columns = {next(iter(signature.inputs)): value}
    else:
        return None
    if body.count(b'"') != 2 * strings:
        return None
    arrays = {key: _fast_array(column, signature.inputs[key]) for key, column in columns.items()}
    if any(array is None for array in arrays.values()):
        return None
    return Request(signature=signature, inputs={k: a for k, a in arrays.items() if a is not None}, row=row)


def _fast_array(column: Any, info: TensorInfo) -> np.ndarray | None:
    number = info.dtype_number
    if number not in (dtypes.FLOAT, dtypes.INT32, dtypes.INT64) or type(column) is not list:
        return None
    try:
        array = np.array(column)
    except (ValueError, TypeError, OverflowError):
        return None
    if array.size == 0 or array.dtype.kind not in ("if" if number == dtypes.FLOAT else "i"):
        return None
    if number == dtypes.FLOAT:
        return flushed(array.astype("f8", copy=False), info.dtype)
    if number == dtypes.INT32 and (array.min() < INT32_RANGE[0] or array.max() > INT32_RANGE[1]):
        return None
    return array.astype(info.dtype.numpy, copy=False)
