"""TorchServe's own KServe v2 envelope loses requests of a batch: why no load goes over it (docs/decisions/0020-kserve-v2.md)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from faceoff import processes

# In a process of its own, as TorchServe's worker has one: argument 1 is the values of each request, the handler adds them up.
_SERVE = """
import json, sys
from ts.torch_handler.request_envelope.kservev2 import KServev2Envelope

class Context:
    manifest = {"model": {"modelName": "m", "modelVersion": "1"}}

    def get_request_id(self, index):
        return f"request {index}"

def request(values):
    tensor = {"name": "x", "shape": [len(values)], "datatype": "FP32", "data": values}
    return {"body": json.dumps({"inputs": [tensor]}).encode()}

def handle(inputs, context):
    return [sum(one["data"]) for one in inputs]

answers = KServev2Envelope(handle).handle([request(values) for values in json.loads(sys.argv[1])], Context())
print(json.dumps([answer["outputs"][0]["data"] for answer in answers]))
"""


@pytest.mark.parametrize("requests", [[[1, 2]], [[1, 2], [3, 4]], [[1, 2], [3, 4], [5, 6]]])
def test_of_a_batch_only_the_first_request_is_answered(requests: list[list[int]]) -> None:
    command = [sys.executable, "-c", _SERVE, json.dumps(requests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=processes.environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[3]]
