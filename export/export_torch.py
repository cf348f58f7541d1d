"""Export one model from PyTorch, in a process of its own; export_tf.py is its pair.

`python -m export.export_torch --model cnn --version 1 --out DIR` writes DIR/<model>.mar and DIR/<model>_torch.onnx; with
`--only` any of the rows of export.formats that are PyTorch's. The model is traced once (torch.export) for all that need it;
the seconds of that are in the row that came first.
"""

from __future__ import annotations

import argparse
import copy
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export import archive, onnx_precision, reproducible, writing
from export.program_torch import LoadedModel
from faceoff import cli, processes, servables
from faceoff.servables import Trained
from faceoff.signature import TensorSpec


def export(args: argparse.Namespace) -> dict[str, Any]:
    """Write the PyTorch servables; returns their descriptions."""
    trained = servables.read_trained(cli.store(args), args.model)
    return {"artifacts": writing.write_rows(args, trained, LoadedModel(trained), WRITERS)}


def export_mar(model: LoadedModel, trained: Trained, path: Path, version: int) -> None:
    """The eager model: its source, its state_dict, our handler."""
    _pack_eager(model, trained, path, version, "float32")


def export_mar_bf16(model: LoadedModel, trained: Trained, path: Path, version: int) -> None:
    """The same with weights and operators in bfloat16 (https://docs.pytorch.org/docs/stable/tensor_attributes.html)."""
    if not model.module.state_dict():
        raise writing.UnsupportedError("the model has no weights to hold in bfloat16")
    _pack_eager(model, trained, path, version, "bfloat16")


def _pack_eager(model: LoadedModel, trained: Trained, path: Path, version: int, dtype: str) -> None:
    import torch

    module = f"{trained.preset['module']}_torch"
    training = processes.ROOT / "training"
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.save(copy.deepcopy(model.module).to(getattr(torch, dtype)).state_dict(), weights)
        # The model's file imports training.layers_torch, so the archive has a package `training` with that one module.
        extra = Path(folder) / "extra"
        (extra / "training").mkdir(parents=True)
        for name in ("__init__.py", "layers_torch.py"):
            shutil.copyfile(training / name, extra / "training" / name)
        servable = {"model_module": module, "architecture": trained.preset["architecture"], "dtype": dtype}
        source = training / f"{module}.py"
        archive.pack(path, trained, version, handler="eager", served=weights, model_file=source, extra=[extra], servable=servable)


def export_torchscript(model: LoadedModel, trained: Trained, path: Path, version: int) -> None:
    """A traced program; torch 2.13 calls TorchScript deprecated and still makes it."""
    import torch

    with _served(path, "model.pt") as served:
        example = model.example
        with warnings.catch_warnings(), writing.converting():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", torch.jit._trace.TracerWarning)  # lengths that become constants show in verification
            torch.jit.trace(model.module, example, check_trace=False).save(str(served))
        archive.pack(path, trained, version, handler="torchscript", served=served)


def export_pt2(model: LoadedModel, trained: Trained, path: Path, version: int) -> None:
    """torch.export's program by itself."""
    import torch

    with _served(path, "model.pt2") as served:
        program = model.program
        with writing.converting():
            torch.export.save(program, str(served))
        reproducible.zip_members(served)
        archive.pack(path, trained, version, handler="pt2", served=served)


def export_aoti(model: LoadedModel, trained: Trained, path: Path, version: int) -> None:
    """torch.export's program, compiled ahead of time for this kind of processor; needs g++."""
    import torch

    with _served(path, "model.pt2") as served:
        program = model.program
        with writing.converting():
            torch._inductor.aoti_compile_and_package(program, package_path=str(served))
        reproducible.zip_members(served)
        archive.pack(path, trained, version, handler="aoti", served=served)


def export_onnx(model: LoadedModel, trained: Trained, path: Path, version: int) -> None:
    """ONNX with dynamic axes, by torch.export (https://docs.pytorch.org/docs/stable/onnx_export.html).

    Recurrent layers go through the older exporter on TorchScript: torch.export unrolls them to the length of its example,
    that one has them as ONNX's own RNN, LSTM and GRU, of any length.
    """
    import torch

    inputs, outputs = trained.signature.inputs, trained.signature.outputs
    names: dict[str, Any] = {"input_names": [spec.name for spec in inputs], "output_names": [spec.name for spec in outputs]}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports every torchvision operator that is not installed
    recurrent = any(isinstance(module, torch.nn.RNNBase) for module in model.module.modules())
    names |= {"dynamic_axes": {spec.name: _axes(spec) for spec in (*inputs, *outputs)}} if recurrent else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch, and what tracing always says of recurrent layers
        source: Any = model.module if recurrent else model.program
        example = model.example
        with writing.converting():
            if recurrent:
                torch.onnx.export(source, example, str(path), dynamo=False, opset_version=18, **names)
            else:
                program = torch.onnx.export(source, dynamo=True, verbose=False, **names)
                assert program is not None  # dynamo=True always returns one
                program.save(str(path))
    reproducible.onnx_file(path)


export_onnx_float16 = onnx_precision.writer(export_onnx, onnx_precision.to_float16)
export_onnx_int8 = onnx_precision.writer(export_onnx, onnx_precision.to_int8)


WRITERS: dict[str, writing.Write] = {
    "torch-mar": export_mar,
    "torch-mar-torchscript": export_torchscript,
    "torch-mar-pt2": export_pt2,
    "torch-mar-aoti": export_aoti,
    "torch-onnx": export_onnx,
    "torch-mar-onnx": archive.writer(export_onnx),
    "torch-mar-bf16": export_mar_bf16,
    "torch-onnx-float16": export_onnx_float16,
    "torch-onnx-int8": export_onnx_int8,
    "torch-mar-onnx-int8": archive.writer(export_onnx_int8),
}


def _axes(spec: TensorSpec) -> dict[int, str]:
    return {0: "batch", **{axis + 1: "length" for axis in spec.dynamic}}


@contextmanager
def _served(path: Path, name: str) -> Iterator[Path]:
    """A place for the file that an archive holds."""
    with tempfile.TemporaryDirectory(prefix=f"{path.stem}-") as folder:
        yield Path(folder) / name


def main(argv: list[str] | None = None) -> int:
    """`python -m export.export_torch`."""
    return cli.run(writing.parser("python -m export.export_torch", __doc__), export, argv)


if __name__ == "__main__":
    raise SystemExit(main())
