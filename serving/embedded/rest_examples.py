"""REST Classify and Regress bodies to an input.proto Input, and their results to JSON (json_tensor.cc).

JSON types decide the feature's kind: true and false and whole numbers make int64 lists, decimals float lists,
strings and base64 objects bytes lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving import tfs_stubs as tfs
from serving.embedded import jsonout
from serving.embedded.errors import invalid
from serving.embedded.examples import Classes
from serving.embedded.json_base64 import decode_base64, is_base64
from serving.embedded.rapidjson import JsonObject
from serving.embedded.rest_decode import format_error, json_type, parse_object, signature_name

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def decode(body: bytes) -> tuple[str, Any]:
    """Signature name ("" for the default) and the Input of a Classify or Regress body. Raises ServingError."""
    document = parse_object(body)
    name = signature_name(document)
    message = tfs.input_pb2.Input()
    context = "context" in document
    if context:
        _fill(document["context"], message.example_list_with_context.context)
    if "examples" not in document:
        raise format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise format_error(document, "'examples' value is an empty array")
    target = message.example_list_with_context if context else message.example_list
    for example in examples:
        _fill(example, target.examples.add())
    return name, message


def _fill(value: Any, example: Any) -> None:
    if not isinstance(value, JsonObject):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    for name, content in value.members:
        feature = tfs.feature_pb2.Feature()
        for item in content if isinstance(content, list) else [content]:
            _add(item, name, feature)
        example.features.feature[jsonout.encoded(name).decode("utf-8", "replace")].CopyFrom(feature)


def _add(value: Any, name: str, feature: Any) -> None:
    if isinstance(value, bool):
        _list(feature, "int64_list", name).append(int(value))
    elif isinstance(value, str):
        _list(feature, "bytes_list", name).append(jsonout.encoded(value))
    elif isinstance(value, JsonObject) and is_base64(value):
        _list(feature, "bytes_list", name).append(decode_base64(value))
    elif isinstance(value, float):
        _list(feature, "float_list", name).append(_as_float32(value))
    elif isinstance(value, int):
        values = _list(feature, "int64_list", name)
        if value >= 2**63:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        values.append(value)
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")


def _as_float32(value: float) -> float:
    import numpy as np

    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _list(feature: Any, kind: str, name: str) -> Any:
    found = feature.WhichOneof("kind")
    if found not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[found]}")
    return getattr(feature, kind).value


def encode_classifications(rows: Sequence[Classes]) -> bytes:
    """`{"results": [[["label", score], …], …]}`."""
    writer = jsonout.PrettyWriter()
    writer.start(array=False)
    writer.key("results")
    writer.start(array=True)
    for classes in rows:
        writer.single_line = True
        writer.start(array=True)
        scores = jsonout.float32([score for _, score in classes])
        for (label, _), score in zip(classes, scores, strict=True):
            writer.start(array=True)
            writer.raw(jsonout.string(label.decode("utf-8", "surrogateescape")))
            writer.raw(score)
            writer.end()
        writer.end()
        writer.single_line = False
    writer.end()
    writer.end()
    return jsonout.encoded(writer.text())


def encode_regressions(values: Sequence[float]) -> bytes:
    """`{"results": [value, …]}`."""
    writer = jsonout.PrettyWriter()
    writer.start(array=False)
    writer.key("results")
    writer.single_line = True
    writer.start(array=True)
    for text in jsonout.float32(values):
        writer.raw(text)
    writer.end()
    writer.end()
    return jsonout.encoded(writer.text())
