"""An ONNX model behind the same API: what model.py is for TensorFlow, for `--engine=onnxruntime`.

A version folder holds `model.onnx`. Its inputs and outputs become the signature `serving_default`; nothing of TensorFlow
runs. A reference: it says how much of an answer's time is the transport's and how much the engine's.
https://onnxruntime.ai/docs/api/python/api_summary.html
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving import tfs_stubs as tfs
from serving.embedded import dtypes, warmup
from serving.embedded.errors import Code, ServingError, invalid, not_found
from serving.embedded.loading import ONNX_FILE, LoadOptions
from serving.embedded.signature import DEFAULT_SIGNATURE, Signature, from_proto

METHOD = "tensorflow/serving/predict"
# ONNX's element types by the names ONNX Runtime gives them.
_TYPES = {
    "float": dtypes.FLOAT,
    "double": dtypes.DOUBLE,
    "int8": dtypes.INT8,
    "int16": dtypes.INT16,
    "int32": dtypes.INT32,
    "int64": dtypes.INT64,
    "uint8": dtypes.UINT8,
    "uint32": dtypes.UINT32,
    "uint64": dtypes.UINT64,
    "bool": dtypes.BOOL,
}


class OnnxModel:
    """One version in memory; implements `signature.Runnable`. `run` may be called from several threads."""

    def __init__(self, name: str, version: int, session: Any, signature: Signature) -> None:
        self.name = name
        self.version = version
        self.signatures = {signature.name: signature}
        self.natural_batch = 1
        self._session: Any = session

    def run(self, signature: Signature, feeds: Sequence[np.ndarray], outputs: tuple[str, ...]) -> list[np.ndarray]:
        """See Runnable. What ONNX Runtime objects to is INVALID_ARGUMENT with its message."""
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, RuntimeException

        try:
            return list(self._session.run(list(outputs), dict(zip(signature.feed_order, feeds, strict=True))))
        except (InvalidArgument, RuntimeException) as error:
            raise invalid(_one_line(error)) from error

    def max_natural_batch(self, signature: Signature) -> int:
        """See Runnable; 1 until the warm-up has proved the rows independent."""
        return self.natural_batch

    def close(self) -> None:
        """Free the session; no run may be under way."""
        self._session = None


def load(name: str, version: int, path: Path, options: LoadOptions) -> OnnxModel:
    """Load and warm up one version folder. Raises ServingError."""
    import onnxruntime

    file = path / ONNX_FILE
    if not file.is_file():
        raise not_found(f"Could not find {ONNX_FILE} at supplied export directory path: {path}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.intra_op_threads or len(os.sched_getaffinity(0))
    settings.inter_op_num_threads = options.inter_op_threads
    try:
        session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base
        raise ServingError(Code.DATA_LOSS, f"ONNX Runtime cannot load {file}: {_one_line(error)}") from error
    model = OnnxModel(name, version, session, _signature(session))
    signature = model.signatures[DEFAULT_SIGNATURE]
    if options.warm_up:
        model.natural_batch = warmup.warm(model, signature, options.max_natural_batch)
    return model


def _signature(session: Any) -> Signature:
    """The SignatureDef of the session's inputs and outputs; a named or unknown dimension is -1."""
    proto = tfs.get_model_metadata_pb2.SignatureDefMap().signature_def[DEFAULT_SIGNATURE]
    proto.method_name = METHOD
    for infos, specs in ((proto.inputs, session.get_inputs()), (proto.outputs, session.get_outputs())):
        for spec in specs:
            kind = spec.type.removeprefix("tensor(").removesuffix(")")
            if kind not in _TYPES:
                raise ServingError(Code.UNIMPLEMENTED, f"{spec.name!r} is {spec.type}: expected one of {', '.join(_TYPES)}")
            info = infos[spec.name]
            info.name, info.dtype = spec.name, _TYPES[kind]
            for size in spec.shape:
                info.tensor_shape.dim.add(size=size if isinstance(size, int) else -1)
    return from_proto(DEFAULT_SIGNATURE, proto)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
