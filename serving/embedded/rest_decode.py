"""REST Predict bodies to named arrays, the ordinary way: any body, every error (TensorFlow Serving's json_tensor.cc).

Sent shapes are not checked against the signature, as in the real server; only types are. `rest_codec` tries its
fast path first and comes here for everything unusual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.embedded import dtypes, jsonout
from serving.embedded.dtypes import DType
from serving.embedded.errors import Code, ServingError, invalid
from serving.embedded.json_base64 import decode_base64, is_base64
from serving.embedded.jsonout import value_to_string
from serving.embedded.rapidjson import JsonObject, parse
from serving.embedded.signature import DEFAULT_SIGNATURE, Signature, TensorInfo
from serving.embedded.tensors import MAX_RANK, NUMPY_RANK

SignatureLookup = Callable[[str], Signature]
INT32_RANGE = (-(2**31), 2**31 - 1)
_INTEGER_RANGE = {dtypes.INT64: (-(2**63), 2**63 - 1), dtypes.UINT32: (0, 2**32 - 1), dtypes.UINT64: (0, 2**64 - 1)}
_TINY = {dtypes.FLOAT: np.finfo("f4").tiny, dtypes.DOUBLE: np.finfo("f8").tiny}
_VIA_INT = (dtypes.INT32, dtypes.INT16, dtypes.INT8, dtypes.UINT8)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A decoded body; `row` says in which of the two formats the answer is written."""

    signature: Signature
    inputs: Mapping[str, np.ndarray]
    row: bool


def predict_signature(signatures: Mapping[str, Signature], name: str) -> Signature:
    """The signature a REST Predict names. Raises ServingError in REST's own words (gRPC's differ)."""
    signature = signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise invalid(f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def')
    return signature


def parse_object(body: bytes) -> JsonObject:
    """The body as an object. Raises ServingError."""
    document = parse(body)
    if not isinstance(document, JsonObject):
        raise invalid(f"JSON Value: {value_to_string(document)} Is not object")
    return document


def signature_name(document: JsonObject) -> str:
    """`signature_name` or "". Raises ServingError where it is not a string."""
    if "signature_name" not in document:
        return ""
    name = document["signature_name"]
    if not isinstance(name, str):
        raise format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def format_error(document: JsonObject, text: str) -> ServingError:
    """An error that shows the whole document."""
    return invalid(f"JSON Value: {value_to_string(document)} {text}")


def decode_ordinary(body: bytes, find: SignatureLookup) -> Request:
    """`decode` for any body. Raises ServingError in the real server's words and order."""
    document = parse_object(body)
    name = signature_name(document)
    signature = find(name)
    if not signature.inputs:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    if "instances" in document:
        if "inputs" in document:
            raise format_error(document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ")
        instances = document["instances"]
        if not isinstance(instances, list):
            raise format_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise format_error(document, "No values in 'instances' array")
        return Request(signature=signature, inputs=_from_instances(instances, signature), row=True)
    if "inputs" in document:
        return Request(signature=signature, inputs=_from_inputs(document["inputs"], signature), row=False)
    raise invalid("Missing 'inputs' or 'instances' key")


class _Rows:
    """The elements of one input gathered from the rows."""

    def __init__(self, info: TensorInfo) -> None:
        self.dtype = info.dtype
        self.values: list[Any] = []
        self.shape: tuple[int, ...] | None = None
        self.size = 0

    def add(self, item: Any) -> None:
        shape = _dense_shape(item)
        leaves = _leaves(item, shape, self.dtype)
        if self.shape is None:
            self.shape, self.size = shape, len(leaves)
        elif len(leaves) != self.size:
            raise invalid(f"Expecting tensor size: {self.size} but got: {len(leaves)}")
        elif shape != self.shape:
            raise invalid(f"Expecting shape {_shown(self.shape)} but got: {_shown(shape)}")
        self.values += leaves


def _from_instances(instances: list[Any], signature: Signature) -> dict[str, np.ndarray]:
    if not isinstance(instances[0], JsonObject) and len(signature.inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"
        )
    named = _is_named(instances[0])
    only = next(iter(signature.inputs))
    rows: dict[str, _Rows] = {}

    def add(name: str, item: Any) -> None:
        if name not in signature.inputs:
            raise invalid(f"JSON object: does not have named input: {name}")
        if name not in rows:
            rows[name] = _Rows(signature.inputs[name])
        rows[name].add(item)

    for index, element in enumerate(instances):
        if _is_named(element) != named:
            if named:
                raise invalid(f"Expecting object but got list at item {index} of input list")
            raise invalid(f"Expecting value/list but got object at item {index} of input list")
        if not named:
            try:
                add(only, element)
            except ServingError as error:
                raise invalid(f"Failed to process element: {index} of 'instances' list. Error: {error}") from error
            continue
        seen: set[str] = set()
        for name, item in element.members:
            seen.add(name)
            try:
                add(name, item)
            except ServingError as error:
                raise invalid(f"Failed to process element: {index} key: {name} of 'instances' list. Error: {error}") from error
        if seen != set(signature.inputs):
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {value_to_string(element)} "
                f"keys must be equal to: {','.join(sorted(signature.inputs))}"
            )
    arrays = {}
    for name, row in rows.items():
        values = row.values[: len(instances) * row.size]  # a key twice in an instance adds a row too many; the last are cut
        arrays[name] = _array(name, values, (len(instances), *(row.shape or ())), row.dtype)
    return arrays


def _from_inputs(value: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not _is_named(value):
        if len(signature.inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
            )
        return {name: _whole(name, value, info) for name, info in signature.inputs.items()}
    arrays = {}
    for name, info in signature.inputs.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _whole(name, value[name], info)
    return arrays


def _whole(name: str, value: Any, info: TensorInfo) -> np.ndarray:
    shape, dtype = _dense_shape(value), info.dtype
    return _array(name, _leaves(value, shape, dtype), shape, dtype)


def _is_named(value: Any) -> bool:
    return isinstance(value, JsonObject) and not is_base64(value)


def _dense_shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _leaves(value: Any, shape: tuple[int, ...], dtype: DType) -> list[Any]:
    """The elements in order, checked and converted. Raises the first error a walk in order would meet."""
    leaves = [value]
    for size in shape:
        if not all(type(item) is list and len(item) == size for item in leaves):
            raise _first_error(value, shape, dtype)
        leaves = [item for items in leaves for item in items]
    if dtype.number in (dtypes.FLOAT, dtypes.DOUBLE) and {*map(type, leaves)} <= {int, float}:
        return leaves
    if dtype.is_string and {*map(type, leaves)} <= {str}:
        return [jsonout.encoded(item) for item in leaves]
    try:
        return [_element(item, dtype) for item in leaves]
    except ServingError as error:
        raise _first_error(value, shape, dtype) from error


def _first_error(value: Any, shape: tuple[int, ...], dtype: DType) -> ServingError:
    todo = [(value, 0)]
    while todo:
        item, level = todo.pop()
        if not isinstance(item, list):
            if level != len(shape):
                return invalid(
                    f"JSON Value: {value_to_string(item)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {len(shape)}"
                )
            try:
                _element(item, dtype)
            except ServingError as error:
                return error
            continue
        if level >= len(shape):
            return invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(item) != shape[level]:
            return invalid(f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: {shape[level]}")
        todo.extend((child, level + 1) for child in reversed(item))
    raise AssertionError("no element is wrong")


def _element(value: Any, dtype: DType) -> Any:
    """One leaf as its Python value. Raises ServingError where the JSON type does not fit."""
    number = dtype.number
    if isinstance(value, JsonObject) and dtype.is_string:
        return decode_base64(value)
    if number in (dtypes.FLOAT, dtypes.DOUBLE):
        fits = type(value) in (int, float)
    elif number in _VIA_INT:
        fits = type(value) is int and INT32_RANGE[0] <= value <= INT32_RANGE[1]
    elif number in _INTEGER_RANGE:
        low, high = _INTEGER_RANGE[number]
        fits = type(value) is int and low <= value <= high
    elif number == dtypes.BOOL:
        fits = type(value) is bool
    elif dtype.is_string:
        fits = type(value) is str
    else:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {value_to_string(value)} to type: {dtype.name}")
    if not fits:
        raise invalid(f"JSON Value: {value_to_string(value)} Type: {json_type(value)} is not of expected type: {dtype.name}")
    return jsonout.encoded(value) if dtype.is_string else value


def json_type(value: Any) -> str:
    """RapidJSON's word for the type of a value."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    return {list: "Array", str: "String", JsonObject: "Object"}.get(type(value), "Number")


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _array(name: str, values: list[Any], shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    if len(shape) > MAX_RANK:
        raise invalid(f"tensor parsing error: {name}")
    if len(shape) > NUMPY_RANK:
        raise ServingError(Code.UNIMPLEMENTED, f"tensors of more than {NUMPY_RANK} dimensions are not supported")
    if dtype.is_string:
        array = np.empty(len(values), object)
        array[:] = values
    elif dtype.number in (dtypes.FLOAT, dtypes.DOUBLE):
        array = flushed(np.array(values, "f8"), dtype)
    elif dtype.number in _VIA_INT:
        array = np.array(values, "i4").astype(dtype.numpy)
    else:
        array = np.array(values, dtype.numpy)
    if array.size != math.prod(shape):  # [[], []] has a shape whose later dimensions nobody sent
        raise invalid(f"tensor parsing error: {name}")
    return array.reshape(shape)


def flushed(doubles: np.ndarray, dtype: DType) -> np.ndarray:
    """Doubles as `dtype`; what is too large becomes infinite, denormals zero."""
    with np.errstate(over="ignore", under="ignore"):
        array = doubles.astype(dtype.numpy)
    small = np.abs(array) < _TINY[dtype.number]
    if np.count_nonzero(small):  # a fourth of what `any` costs on a small array
        array = np.where(small, np.copysign(array.dtype.type(0), array), array)
    return array
