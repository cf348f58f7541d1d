"""The one import point of `tensorflow_serving` (the stubs of tensorflow-serving-api).

The generated modules import `tensorflow.core.*` protos and so, by way of tensorflow/__init__.py, all of
TensorFlow: 8 to 16 s and 600 MB. A client needs the protos only. Where TensorFlow is not loaded yet, an
empty module of that name whose `__path__` is the real package's lets the protos be imported alone
(0.3 s, 33 MB). A process that runs TensorFlow imports it before this module.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path


def _shadow_tensorflow() -> None:
    if "tensorflow" in sys.modules:
        return
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("tensorflow is not installed: run make setup", name="tensorflow")
    shadow = types.ModuleType("tensorflow")
    shadow.__path__ = [str(Path(spec.origin).parent)]
    sys.modules["tensorflow"] = shadow


_shadow_tensorflow()

from tensorflow.core.example import example_pb2, feature_pb2  # noqa: E402
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tensorflow_serving.config import model_server_config_pb2  # noqa: E402

PREDICT = "/tensorflow.serving.PredictionService/Predict"

__all__ = [
    "PREDICT",
    "classification_pb2",
    "example_pb2",
    "feature_pb2",
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "inference_pb2",
    "input_pb2",
    "model_management_pb2",
    "model_pb2",
    "model_server_config_pb2",
    "model_service_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_log_pb2",
    "prediction_service_pb2",
    "prediction_service_pb2_grpc",
    "regression_pb2",
    "tensor_pb2",
    "tensor_shape_pb2",
    "types_pb2",
]
