"""GetModelStatus and GetModelMetadata as REST shows them: protobuf's own JSON printer, one space a level.

Written by hand from the messages, because Python's json_format orders and escapes otherwise. Map order is free
in the real server; here it is sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.embedded.jsonout import encoded, string
from serving.embedded.versions import VersionStatus


def status_json(statuses: Sequence[VersionStatus]) -> bytes:
    """`{"model_version_status": [...]}` with a newline at the end."""
    items = [
        {
            "version": str(status.version),
            "state": status.state.name,
            "status": {"error_code": status.code.name, "error_message": status.message},
        }
        for status in statuses
    ]
    return encoded(_pretty({"model_version_status": items}) + "\n")


def metadata_json(name: str, model: Any) -> bytes:
    """model_spec and signature_def, glued together as the real server does it."""
    spec = _pretty({"name": name, "version": str(model.version), "signature_name": ""})
    signatures = {key: _signature(model.signatures[key].proto) for key in sorted(model.signatures)}
    definition = _pretty({"signature_def": signatures})
    return encoded(f'{{\n"model_spec":{spec}\n,\n"metadata": {{"signature_def": {definition}\n}}\n}}\n')


def _signature(proto: Any) -> dict[str, Any]:
    return {
        "inputs": {alias: _tensor_info(proto.inputs[alias]) for alias in sorted(proto.inputs)},
        "outputs": {alias: _tensor_info(proto.outputs[alias]) for alias in sorted(proto.outputs)},
        "method_name": proto.method_name,
        "defaults": {},
    }


def _tensor_info(proto: Any) -> dict[str, Any]:
    from serving import tfs_stubs as tfs

    shape = {
        "dim": [{"size": str(dim.size), "name": dim.name} for dim in proto.tensor_shape.dim],
        "unknown_rank": proto.tensor_shape.unknown_rank,
    }
    info: dict[str, Any] = {}
    if proto.WhichOneof("encoding") == "name" or not proto.WhichOneof("encoding"):
        info["name"] = proto.name
    return {**info, "dtype": tfs.types_pb2.DataType.Name(proto.dtype), "tensor_shape": shape}


def _pretty(value: Any, indent: int = 0) -> str:
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        if not value:
            return "{}"
        items = [f"{inner}{string(key)}: {_pretty(item, indent + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    if isinstance(value, list):
        if not value:
            return "[]"
        return "[\n" + ",\n".join(inner + _pretty(item, indent + 1) for item in value) + "\n" + " " * indent + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return string(value)
