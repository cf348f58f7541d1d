"""TensorFlow's data types as this server needs them: number, name in messages, numpy type, TensorProto field.

Source: tensorflow/core/framework/types.proto and tensor.proto; DataTypeString gives the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True, kw_only=True)
class DType:
    """`number` is types.proto's, `field` the repeated field of TensorProto its values travel in."""

    number: int
    name: str
    numpy: np.dtype
    field: str

    @property
    def is_string(self) -> bool:
        """Strings are numpy objects holding bytes."""
        return self.number == STRING


FLOAT, DOUBLE, INT32, UINT8, INT16, INT8, STRING, INT64, BOOL = 1, 2, 3, 4, 5, 6, 7, 9, 10
UINT32, UINT64 = 22, 23

_TABLE = [
    (FLOAT, "float", "<f4", "float_val"),
    (DOUBLE, "double", "<f8", "double_val"),
    (INT32, "int32", "<i4", "int_val"),
    (UINT8, "uint8", "|u1", "int_val"),
    (INT16, "int16", "<i2", "int_val"),
    (INT8, "int8", "|i1", "int_val"),
    (STRING, "string", "O", "string_val"),
    (8, "complex64", "<c8", "scomplex_val"),
    (INT64, "int64", "<i8", "int64_val"),
    (BOOL, "bool", "?", "bool_val"),
    (17, "uint16", "<u2", "int_val"),
    (18, "complex128", "<c16", "dcomplex_val"),
    (19, "half", "<f2", "half_val"),
    (UINT32, "uint32", "<u4", "uint32_val"),
    (UINT64, "uint64", "<u8", "uint64_val"),
]
_BY_NUMBER = {n: DType(number=n, name=name, numpy=np.dtype(code), field=field) for n, name, code, field in _TABLE}
_BFLOAT16 = 14


@cache
def by_number(number: int) -> DType | None:
    """The type with that number in types.proto, or None where this server has no values of it."""
    if number == _BFLOAT16:
        import ml_dtypes

        return DType(number=number, name="bfloat16", numpy=np.dtype(ml_dtypes.bfloat16), field="half_val")
    return _BY_NUMBER.get(number)


@cache
def by_numpy(dtype: np.dtype) -> DType:
    """The type of a numpy array that came out of TensorFlow."""
    for known in _BY_NUMBER.values():
        if known.numpy == dtype:
            return known
    bfloat16 = by_number(_BFLOAT16)
    assert bfloat16 is not None
    if bfloat16.numpy == dtype:
        return bfloat16
    raise TypeError(f"no TensorFlow type is known for {dtype}")
