"""Verify a LiteRT file through its signature, in a process of its own.

`python -m export.verify_tflite --model cnn --artifact tf-tflite`. The runtime is LiteRT's own package where
`make setup-formats` made its environment, else the interpreter inside TensorFlow; the record says which.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from export import check
from export.check import Predict
from faceoff import cli
from faceoff.errors import FaceoffError
from faceoff.servables import Trained
from faceoff.signature import Arrays


def load(path: Path, trained: Trained) -> tuple[str, Predict]:
    """Open the file and check the names, dtypes and shapes of its signature. Raises FaceoffError."""
    runtime, interpreter_class = _interpreter()
    try:
        interpreter = interpreter_class(model_path=str(path))
        runner = interpreter.get_signature_runner(trained.signature.name)
    except (ValueError, RuntimeError) as error:
        raise FaceoffError(f"the LiteRT file does not load ({type(error).__name__}: {error})") from error
    details = runner.get_input_details()
    found = {
        name: (np.dtype(d["dtype"]).name, [None if n < 0 else int(n) for n in d["shape_signature"]])
        for name, d in details.items()
    }
    check.compare_inputs(found, trained, lambda spec: (spec.dtype, [None, *spec.dynamic_shape]))

    def predict(inputs: Arrays) -> Arrays:
        # `interpreter` is named here because the runner does not keep it alive.
        assert interpreter is not None
        return dict(runner(**inputs))

    return runtime, predict


def _interpreter() -> tuple[str, Any]:
    if importlib.util.find_spec("ai_edge_litert"):
        from importlib.metadata import version

        from ai_edge_litert.interpreter import Interpreter

        return f"LiteRT {version('ai-edge-litert')}", Interpreter
    with cli.quiet_tensorflow():
        import tensorflow as tf
    warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated", category=UserWarning)
    return f"LiteRT inside TensorFlow {tf.__version__}", tf.lite.Interpreter


def main(argv: list[str] | None = None) -> int:
    """`python -m export.verify_tflite`."""
    return check.main("export.verify_tflite", __doc__, load, argv)


if __name__ == "__main__":
    raise SystemExit(main())
