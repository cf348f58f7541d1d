"""TorchServe handler for an ONNX file of either framework, in ONNX Runtime; torch is not imported.

Threads inside an operator are what OMP_NUM_THREADS says, as for torch; unset, ONNX Runtime takes every core.
"""

import os

import onnxruntime
from batching import BatchingHandler


class OnnxHandler(BatchingHandler):
    """`servable.json` names the .onnx file."""

    def load(self, folder, servable, gpu):
        """A session on the worker's device."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
        providers = ["CPUExecutionProvider"]
        if gpu is not None and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(gpu)}))
        session = onnxruntime.InferenceSession(str(folder / servable["file"]), options, providers=providers)
        inputs = [spec["name"] for spec in servable["signature"]["inputs"]]
        outputs = [spec["name"] for spec in servable["signature"]["outputs"]]
        return lambda arrays: session.run(outputs, dict(zip(inputs, arrays, strict=True)))
