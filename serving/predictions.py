"""An answer in JSON, `{"predictions": [...]}`, read strictly: names, shapes and the kinds of values are the signature's.

numpy alone would read the text "1.5" as a number and cut 1.7 to the integer 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from faceoff.signature import Arrays, TensorSpec

# The kinds of numpy array that JSON may hold, by the output's own kind: a float may be written as 1.
_JSON_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "O": "U"}


class DecodeError(ValueError):
    """An answer that is not what the signature promises."""


def decode(body: bytes, specs: Sequence[TensorSpec], num_rows: int) -> Arrays:
    """The named outputs of `num_rows` rows: one object a row of several, the bare value of a single one. Raises DecodeError."""
    try:
        rows = _json(body)["predictions"]
        if len(specs) == 1:
            return {specs[0].name: _array(specs[0], rows, num_rows)}
        names = {spec.name for spec in specs}
        for row in rows:
            if not isinstance(row, dict) or row.keys() != names:
                found = sorted(row) if isinstance(row, dict) else type(row).__name__
                raise DecodeError(f"a row of {found}, expected {sorted(names)}")
        return {spec.name: _array(spec, [row[spec.name] for row in rows], num_rows) for spec in specs}
    except DecodeError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DecodeError(f"not a predictions document ({type(error).__name__}: {error})") from error


def check_shape(spec: TensorSpec, shape: tuple[int, ...], num_rows: int) -> None:
    """Raise DecodeError unless `shape` is that of `num_rows` rows of the tensor."""
    expected = (num_rows, *spec.dynamic_shape)
    if len(shape) != len(expected) or any(size not in (None, found) for size, found in zip(expected, shape, strict=True)):
        raise DecodeError(f"{spec.name!r} has shape {shape}, expected {expected}")


def _json(body: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)  # much slower; it reads NaN and Infinity, which both servers write and orjson does not know


def _array(spec: TensorSpec, values: Any, num_rows: int) -> np.ndarray:
    """Values of JSON as the tensor. Raises DecodeError for what they are not."""
    found = np.asarray(values)
    if found.dtype.kind not in _JSON_KINDS[np.dtype(spec.dtype).kind]:
        raise DecodeError(f"{spec.name!r} holds values of type {found.dtype}, expected {spec.dtype}")
    check_shape(spec, found.shape, num_rows)
    array = found.astype(spec.dtype, copy=False)
    if array.dtype.kind in "iu" and not np.array_equal(array, found):
        raise DecodeError(f"{spec.name!r} holds values beyond {spec.dtype}")
    return array
