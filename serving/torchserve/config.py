"""TorchServe's config.properties: where to listen, the models' versions, the settings of the preset, how large a message may be.

https://docs.pytorch.org/serve/configuration.html
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from faceoff import golden
from faceoff.signature import TensorSpec
from serving.lifecycle import MORE_S, START_DEADLINE_S, Job, Served

# Lines that deploy writes from the other settings; the setting `properties` may not.
OURS = (
    *(f"{kind}_address" for kind in ("inference", "management", "metrics", "grpc_inference", "grpc_management")),
    *("grpc_inference_port", "grpc_management_port", "disable_token_authorization", "enable_model_api", "metrics_mode"),
    *("job_queue_size", "default_startup_timeout", "install_py_dep_per_model", "load_models", "models", "model_store"),
)
MESSAGE_BYTES = 6_553_500  # as installed: what is larger is refused, HTTP 413
NUMBER_BYTES = 26  # of JSON: 17 digits, sign, point, exponent and what stands between two numbers


def text(job: Job, ports: Mapping[str, int], bind: str) -> str:
    """The file's text for a TorchServe that listens at the address `bind`."""
    settings = job.settings
    models: dict[str, dict[str, Any]] = {}
    for model, versions in job.models.items():
        for served in versions:
            models.setdefault(model, {})[str(served.version)] = {
                "defaultVersion": served is versions[-1],
                "marName": archive_name(served),
                "minWorkers": settings["workers"],
                "maxWorkers": settings["workers"],
                "batchSize": settings["batch_size"],
                "maxBatchDelay": settings["max_batch_delay_ms"],
                "responseTimeout": settings["response_timeout_s"],
            }
    lines = {
        "inference_address": f"http://{bind}:{ports['torchserve rest']}",
        "management_address": f"http://{bind}:{ports['torchserve management']}",
        "metrics_address": f"http://{bind}:{ports['torchserve metrics']}",
        "grpc_inference_address": bind,
        "grpc_management_address": bind,
        "grpc_inference_port": ports["torchserve grpc"],
        "grpc_management_port": ports["torchserve grpc management"],
        "disable_token_authorization": "true",
        "enable_model_api": "true",
        "metrics_mode": "prometheus",
        "job_queue_size": settings["job_queue_size"],
        # A worker that imports torch beside many others, on few cores; the front end would kill it after 120 s.
        "default_startup_timeout": int(START_DEADLINE_S + MORE_S * len(job.served)),
        "install_py_dep_per_model": "false",
        "load_models": ",".join(archive_name(served) for served in job.served),
        "models": json.dumps(models),
        **message_limits(job.served),
        **settings.get("properties", {}),
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def message_limits(served: Sequence[Served]) -> dict[str, int]:
    """Limits of request and response, where the largest golden batch may need more in JSON than TorchServe takes as installed."""
    needed = {
        "max_request_size": max(json_bytes(one.signature.inputs) for one in served),
        "max_response_size": max(json_bytes(one.signature.outputs) for one in served),
    }
    return {name: size for name, size in needed.items() if size > MESSAGE_BYTES}


def json_bytes(specs: Iterable[TensorSpec]) -> int:
    """The most that a batch of the largest golden size takes as JSON numbers."""
    return golden.BATCH_SIZES[-1] * NUMBER_BYTES * sum(math.prod(spec.shape) for spec in specs)


def archive_name(served: Served) -> str:
    """Its name in the model store: the archives of two versions of a model have the same name."""
    return f"{served.model}-{served.version}.mar"
