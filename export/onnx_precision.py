"""An ONNX file in a lower precision, by ONNX Runtime's own tools, in the same way for the file of either framework.

float16: weights and operators; what ONNX Runtime has no float16 kernel for on a processor, it computes in float32 between
casts. int8: post-training quantization (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html) as
that page recommends. A network of convolutions has the ranges of its activations fixed from training rows ("static"); others
take them from each batch ("dynamic"), and their LSTM is quantized, which static leaves out. Inputs and outputs stay as they are.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from export import reproducible, writing
from faceoff import golden
from faceoff.servables import Trained
from faceoff.signature import Arrays
from training.golden_rows import NUM_EXTREMES

NUM_CALIBRATION_ROWS = 256
MIN_SHARE = 0.5  # of the weights that must have become smaller: else the file is not what its name says

Convert = Callable[[Path, Path, Trained], None]  # the float32 file, the file to write, what was trained


def writer(export_onnx: writing.Write, convert: Convert) -> writing.Write:
    """A writer of `export_onnx`'s file made smaller by `convert`."""

    def write(model: Any, trained: Trained, path: Path, version: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            full = Path(folder) / "float32.onnx"
            export_onnx(model, trained, full, version)
            convert(full, path, trained)
        reproducible.onnx_file(path)

    return write


def to_float16(source: Path, path: Path, trained: Trained) -> None:
    """Weights and operators in float16. Raises UnsupportedError when most weights stay as they are."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with writing.converting(), _quiet():
        converted = OnnxModel(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True))
        converted.topological_sort()  # the casts of the inputs come last
        converted.save_model_to_file(str(path))
    _check_share(path, {onnx.TensorProto.FLOAT16})


def to_int8(source: Path, path: Path, trained: Trained) -> None:
    """Weights in 8 bits, one scale a channel. Raises UnsupportedError when most weights stay as they are.

    Neither form needs VNNI to be right: older processors add two 8-bit products in 16 bits, which overflows unless both factors
    are unsigned (dynamic) or the weights have 7 bits (static).
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    unsigned, signed = quantization.QuantType.QUInt8, quantization.QuantType.QInt8
    rows = _Calibration(iter(list(calibration_rows(trained))))  # read here: what fails in reading is no converter's doing
    with writing.converting(), _quiet(), tempfile.TemporaryDirectory() as folder:
        folded = Path(folder) / "folded.onnx"  # batch normalization in the convolutions, as both frameworks' files then have it
        quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
        if any(node.op_type in ("Conv", "ConvTranspose") for node in onnx.load(str(folded)).graph.node):
            types = {"activation_type": unsigned, "weight_type": signed}
            quantization.quantize_static(folded, path, rows, per_channel=True, reduce_range=True, **types)
        else:
            quantization.quantize_dynamic(folded, path, per_channel=True, weight_type=unsigned)
    _check_share(path, {onnx.TensorProto.INT8, onnx.TensorProto.UINT8})


def calibration_rows(trained: Trained) -> Iterator[Arrays]:
    """Named inputs: training rows, a batch at a time, then the extremes of the golden rows, to which every artifact is held.

    No test row is among them.
    """
    size = max(golden.BATCH_SIZES)
    with np.load(trained.directory / "data.npz") as data:
        rows = {spec.name: data[f"train/{spec.name}"][:NUM_CALIBRATION_ROWS] for spec in trained.signature.inputs}
    for start in range(0, len(next(iter(rows.values()))), size):
        yield {name: array[start : start + size] for name, array in rows.items()}
    yield {name: array[-NUM_EXTREMES:] for name, array in trained.golden.inputs.items()}


class _Calibration:
    """Rows as ONNX Runtime's CalibrationDataReader gives them (which is recognized by its method)."""

    def __init__(self, rows: Iterator[Arrays]) -> None:
        self._rows = rows

    def get_next(self) -> Arrays | None:
        """The next batch, None at the end."""
        return next(self._rows, None)


def _check_share(path: Path, types: set[int]) -> None:
    """Raise UnsupportedError unless most numbers of the file's weights are of one of `types`."""
    import onnx

    sizes = {True: 0, False: 0}
    for tensor in onnx.load(str(path)).graph.initializer:
        sizes[tensor.data_type in types] += int(np.prod(tensor.dims))
    share = sizes[True] / max(sum(sizes.values()), 1)
    if share < MIN_SHARE:
        raise writing.UnsupportedError(f"{share:.0%} of the weights were converted, expected at least {MIN_SHARE:.0%}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the converters' advice, which they log as warnings of the root logger."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
