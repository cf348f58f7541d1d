"""`{"b64": "…"}`: how bytes travel in JSON; exactly one key. Standard base64 as Abseil's Base64Unescape reads it.

Whitespace is skipped, the padding is there or is left out, `.` pads as well as `=`, and the last bits need not be zero.
"""

from __future__ import annotations

import binascii
from typing import Any

from serving.embedded import jsonout
from serving.embedded.errors import invalid
from serving.embedded.jsonout import value_to_string
from serving.embedded.rapidjson import JsonObject

_WHITESPACE = b" \t\n\v\f\r"


def is_base64(value: Any) -> bool:
    """`{"b64": "…"}` and nothing else."""
    return isinstance(value, JsonObject) and len(value.members) == 1 and "b64" in value and isinstance(value["b64"], str)


def decode_base64(value: JsonObject) -> bytes:
    """The bytes of a base64 object. Raises ServingError."""
    if not is_base64(value):
        raise invalid(f"JSON Value: {value_to_string(value)} not formatted correctly for base64 data")
    text = jsonout.encoded(value["b64"])
    try:
        try:
            return _unescaped(text)
        except binascii.Error:
            return _unescaped(text.translate(None, _WHITESPACE))
    except binascii.Error as error:
        raise invalid("Unable to base64 decode") from error


def _unescaped(text: bytes) -> bytes:
    """The bytes of base64 without whitespace. Raises binascii.Error."""
    data = text.rstrip(b"=.")
    missing = -len(data) % 4
    if len(text) - len(data) not in (0, missing):
        raise binascii.Error("wrong padding")
    return binascii.a2b_base64(data + b"=" * missing, strict_mode=True)
