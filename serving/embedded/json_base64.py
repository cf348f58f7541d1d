"""`{"b64": "…"}`: how bytes travel in JSON. Strict standard base64, with padding, and exactly one key."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from serving.embedded import jsonout
from serving.embedded.errors import invalid
from serving.embedded.jsonout import value_to_string
from serving.embedded.rapidjson import JsonObject


def is_base64(value: Any) -> bool:
    """`{"b64": "…"}` and nothing else."""
    return isinstance(value, JsonObject) and len(value.members) == 1 and "b64" in value and isinstance(value["b64"], str)


def decode_base64(value: JsonObject) -> bytes:
    """The bytes of a base64 object. Raises ServingError."""
    if not is_base64(value):
        raise invalid(f"JSON Value: {value_to_string(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(jsonout.encoded(value["b64"]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error
