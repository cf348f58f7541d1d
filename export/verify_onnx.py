"""Verify an ONNX file in ONNX Runtime, in a process of its own.

`python -m export.verify_onnx --model cnn --artifact torch-onnx`.
"""

from __future__ import annotations

from pathlib import Path

from export import check
from export.check import Predict
from faceoff.errors import FaceoffError
from faceoff.servables import Trained
from faceoff.signature import Arrays

_TYPES = {"float32": "tensor(float)", "int32": "tensor(int32)", "int64": "tensor(int64)"}


def load(path: Path, trained: Trained) -> tuple[str, Predict]:
    """Check the file by ONNX's own checker, open a session, check names, dtypes and shapes. Raises FaceoffError."""
    import onnx
    import onnxruntime

    try:
        onnx.checker.check_model(str(path))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise FaceoffError(f"the ONNX file does not load ({type(error).__name__}: {error})") from error
    # A dynamic axis has a name, or none, instead of a size.
    shapes = {i.name: [size if isinstance(size, int) else None for size in i.shape] for i in session.get_inputs()}
    found = {i.name: (i.type, shapes[i.name]) for i in session.get_inputs()}
    check.compare_inputs(found, trained, lambda spec: (_TYPES[spec.dtype], [None, *spec.dynamic_shape]))
    names = [output.name for output in session.get_outputs()]

    def predict(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, inputs), strict=True))

    return f"onnxruntime {onnxruntime.__version__}", predict


def main(argv: list[str] | None = None) -> int:
    """`python -m export.verify_onnx`."""
    return check.main("export.verify_onnx", __doc__, load, argv)


if __name__ == "__main__":
    raise SystemExit(main())
