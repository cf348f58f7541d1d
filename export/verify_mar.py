"""Verify a TorchServe archive the way a worker loads it, in a process of its own.

`python -m export.verify_mar --model cnn --artifact torch-mar` unpacks the .mar, imports its handler, gives
it TorchServe's own Context and compares the answers of `handle` with the golden outputs.
"""

from __future__ import annotations

import atexit
import importlib
import json
import shutil
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from export import check
from export.check import Predict
from faceoff import golden, images
from faceoff.errors import FaceoffError
from faceoff.servables import Trained
from faceoff.signature import Arrays


def load(path: Path, trained: Trained) -> tuple[str, Predict]:
    """Unpack and initialize; `predict` sends requests through the handler. Raises FaceoffError."""
    folder = Path(tempfile.mkdtemp(prefix="faceoff-mar-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # a handler may read its files until the process ends
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        record = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))
        handler, context = initialize(folder, record)
    except Exception as error:  # a runtime's errors share no base
        raise FaceoffError(f"the archive does not load ({type(error).__name__}: {error})") from error
    check_outputs(handler, trained)
    signature = trained.signature

    def predict(inputs: Arrays) -> Arrays:
        if images.INPUT in inputs:
            return read(call({f"image_{n}": data for n, data in enumerate(inputs[images.INPUT])}), len(inputs[images.INPUT]))
        stated = all(inputs[spec.name].shape[1:] == spec.shape for spec in signature.inputs)
        if not stated:  # raw bytes mean the stated length; JSON says its own
            return _json(inputs)
        body = b"".join(np.ascontiguousarray(inputs[s.name], dtype=s.wire_dtype).tobytes() for s in signature.inputs)
        return read(call({"body": body}), len(next(iter(inputs.values()))))

    def call(request: dict[str, Any]) -> Any:
        return handler.handle([request], context)[0]

    def read(answer: Any, rows: int) -> Arrays:
        start, found = 0, {}
        for spec in signature.outputs:
            count = rows * int(np.prod(spec.shape))
            try:
                array = np.frombuffer(answer, spec.wire_dtype, count, start).reshape((rows, *spec.shape))
            except (ValueError, TypeError):
                return {spec.name: np.empty(0, spec.dtype)}  # a refusal or another shape: `compare` says so
            found[spec.name] = array.astype(spec.dtype)
            start += array.nbytes
        return found if start == len(answer) else {"bytes left over": np.empty(0)}

    def _json(inputs: Arrays) -> Arrays:
        names = [spec.name for spec in signature.inputs]
        rows = [{name: inputs[name][i].tolist() for name in names} for i in range(len(inputs[names[0]]))]
        document = json.loads(call({"body": {"instances": rows}}))
        if "predictions" not in document:
            raise FaceoffError(document["error"])
        answers = document["predictions"]
        if len(signature.outputs) == 1:
            answers = [{signature.outputs[0].name: row} for row in answers]
        return {spec.name: np.asarray([row[spec.name] for row in answers], spec.dtype) for spec in signature.outputs}

    about = [f"TorchServe {version('torchserve')} handler {type(handler).__name__}"]
    for name in ("torch", "onnxruntime"):
        if name in sys.modules:
            about.append(f"{name} {sys.modules[name].__version__}")
    return ", ".join(about), predict


def initialize(folder: Path, record: dict[str, Any]) -> tuple[Any, Any]:
    """The handler object of an unpacked archive, initialized, and its context."""
    from ts.context import Context

    sys.path.insert(0, str(folder))  # as TorchServe's worker does
    module = importlib.import_module(Path(record["model"]["handler"]).stem)
    kinds = [kind for name, kind in vars(module).items() if name.endswith("Handler") and kind.__module__ == module.__name__]
    context = Context(record["model"]["modelName"], str(folder), record, 1, None, version("torchserve"))
    context.request_processor = [_Statuses()]
    handler = kinds[0]()
    handler.initialize(context)
    return handler, context


def check_outputs(handler: Any, trained: Trained) -> None:
    """Raise FaceoffError unless the handler itself gives its outputs the names, shapes and dtypes of the signature.

    The wire has none: raw bytes and JSON rows are read as what they should be. The values are judged from the wire.
    """
    rows = trained.golden.rows(0, 2)
    if problem := golden.compare(handler.infer(rows.inputs), rows.outputs, float("inf")).problem:
        raise FaceoffError(f"the handler's outputs: {problem}")


class _Statuses:
    """Where TorchServe's context keeps the status and headers of one request."""

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """A 400 of the handler; its answer is not an array, which the comparison reports."""

    def add_response_property(self, key: str, value: str) -> None:
        """A response header."""


def main(argv: list[str] | None = None) -> int:
    """`python -m export.verify_mar`."""
    return check.main("export.verify_mar", __doc__, load, argv)


if __name__ == "__main__":
    raise SystemExit(main())
