"""The servers that can be deployed. A new one is one module here and one line below."""

from __future__ import annotations

import importlib

from faceoff.errors import unknown
from serving.lifecycle import Server

# Name to module:class; imported only when it is asked for.
SERVERS = {
    "torchserve": "serving.servers.torchserve:TorchServe",
    "tfserving": "serving.servers.tfserving:TfServing",
    "tfserving-embedded": "serving.servers.embedded:Embedded",
    "onnxruntime": "serving.servers.onnxruntime:OnnxRuntime",  # a reference
}


def server_class(name: str) -> type[Server]:
    """The class of the server called `name`. Raises UsageError for an unknown one."""
    if name not in SERVERS:
        raise unknown("server", name, list(SERVERS), "SERVERS")
    module, attribute = SERVERS[name].split(":")
    kind: type[Server] = getattr(importlib.import_module(module), attribute)
    return kind
