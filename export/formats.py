"""Every form a model can be exported in: one row each, with the process that writes it and the one that checks it.

FORMATS is a comma list: `default` is what the servers need and `make demo` has time for, `all` is every row, and it
takes the names of rows (`torch-onnx`), of formats (`onnx`: the rows of both sources) and of precisions (`int8`). What happens
to a row is in the manifests: export says `exported` or `unsupported`, verify says `verified`, `refused` or `unsupported`, always
with the reason. To add a form: a row here, a tolerance in presets/export.yaml, a writer in the module of its source.

A lower precision is a form of its own whose format says so (`mar-eager-bf16`): a server, a measurement or a report that names
the format names the precision. It is there only where both sides have the same kind of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceoff import cli
from faceoff.processes import ROOT

ENVIRONMENTS = ROOT / ".venv-formats"
NOT_HAD = "unsupported.txt"  # in an environment's folder: why it could not be made, in the resolver's words


@dataclass(frozen=True, kw_only=True)
class Format:
    """One row. `path` is relative to the export folder; `{model}` and `{version}` are filled in."""

    name: str
    source: str  # torch | tf
    format: str
    path: str
    writer: str  # module that writes it
    verifier: str  # module that loads it in its own runtime
    environment: str = ""  # of .venv-formats, when .venv does not do
    runtime: str = ""  # of .venv-formats: where it is checked when that is there, else in .venv
    default: bool = False
    precision: str = "float32"  # of weights and operators; inputs and outputs are the signature's in every form

    def file(self, model: str, version: int) -> str:
        """The path of this model's artifact."""
        return self.path.format(model=model, version=version)

    def interpreter(self) -> Path | None:
        """The interpreter that checks it; None for this one."""
        return python(self.environment or self.runtime)

    def describe(self, model: str, version: int) -> dict[str, object]:
        """What every record of this row begins with."""
        row = {"name": self.name, "model": model, "source": self.source, "format": self.format}
        return {**row, "precision": self.precision, "file": self.file(model, version)}

    def unsupported(self, model: str, version: int, reason: str) -> dict[str, object]:
        """The record of a row that cannot be had; it has every field that a reader of the matrix asks for."""
        none = {"size_bytes": None, "max_abs_difference": None}
        return {**self.describe(model, version), **none, "status": "unsupported", "reason": reason}


def _torch(name: str, form: str, path: str, verifier: str = "export.verify_mar", **more: Any) -> Format:
    row: dict[str, Any] = {"name": name, "source": "torch", "format": form, "path": path, "writer": "export.export_torch"}
    return Format(**row, **more, verifier=verifier)


def _tf(name: str, form: str, path: str, verifier: str, **more: Any) -> Format:
    row: dict[str, Any] = {"name": name, "source": "tf", "format": form, "path": path, "writer": "export.export_tf"}
    return Format(**row, **more, verifier=verifier)


FORMATS = (
    _torch("torch-mar", "mar-eager", "{model}.mar", default=True),
    _torch("torch-mar-torchscript", "mar-torchscript", "{model}-torchscript.mar"),
    _torch("torch-mar-pt2", "mar-pt2", "{model}-pt2.mar"),
    _torch("torch-mar-aoti", "mar-aoti", "{model}-aoti.mar"),
    _torch("torch-onnx", "onnx", "{model}_torch.onnx", "export.verify_onnx", default=True),
    _torch("torch-mar-onnx", "mar-onnx", "{model}-onnx.mar"),
    Format(
        name="torch-executorch",
        source="torch",
        format="executorch",
        path="{model}.pte",
        writer="export.export_executorch",
        verifier="export.verify_executorch",
        environment="executorch",
    ),
    _tf("tf-savedmodel", "saved_model", "saved_model/{version}", "export.verify_tf", default=True),
    _tf("tf-savedmodel-xla", "saved_model-xla", "saved_model_xla/{version}", "export.verify_tf"),
    _tf("tf-onnx", "onnx", "{model}_tf.onnx", "export.verify_onnx", default=True),
    _tf("tf-mar-onnx", "mar-tf-onnx", "{model}-tf-onnx.mar", "export.verify_mar"),
    _tf("tf-tflite", "tflite", "{model}.tflite", "export.verify_tflite", runtime="litert"),
    # No writer: its converter cannot be had beside this TensorFlow, which `make setup-formats` finds out each time.
    Format(name="tf-tfjs", source="tf", format="tfjs", path="tfjs", writer="", verifier="", environment="tfjs"),
    _torch("torch-mar-bf16", "mar-eager-bf16", "{model}-bf16.mar", precision="bf16"),
    _tf("tf-savedmodel-bf16", "saved_model-bf16", "saved_model_bf16/{version}", "export.verify_tf", precision="bf16"),
    _torch("torch-onnx-float16", "onnx-float16", "{model}_torch-float16.onnx", "export.verify_onnx", precision="float16"),
    _tf("tf-onnx-float16", "onnx-float16", "{model}_tf-float16.onnx", "export.verify_onnx", precision="float16"),
    _torch("torch-onnx-int8", "onnx-int8", "{model}_torch-int8.onnx", "export.verify_onnx", precision="int8"),
    _tf("tf-onnx-int8", "onnx-int8", "{model}_tf-int8.onnx", "export.verify_onnx", precision="int8"),
    _torch("torch-mar-onnx-int8", "mar-onnx-int8", "{model}-onnx-int8.mar", precision="int8"),
    _tf("tf-mar-onnx-int8", "mar-tf-onnx-int8", "{model}-tf-onnx-int8.mar", "export.verify_mar", precision="int8"),
)
BY_NAME = {row.name: row for row in FORMATS}


def select(text: str) -> list[Format]:
    """The rows that FORMATS names, in the registry's order. Raises UsageError."""
    groups = {r.name: {r.name, r.format, r.precision, "all", *(["default"] if r.default else [])} for r in FORMATS}
    known = set().union(*groups.values())
    wanted = set(cli.names(text, "format", "FORMATS", known))
    return [row for row in FORMATS if groups[row.name] & wanted]


def has_lower_precision(names: Iterable[str]) -> bool:
    """Whether any of these rows is in less than float32."""
    return any(BY_NAME[name].precision != "float32" for name in names)


def missing_environment(row: Format) -> str | None:
    """Why the row's environment cannot be used, or None."""
    if not row.environment or python(row.environment) is not None:
        return None
    reason = ENVIRONMENTS / row.environment / NOT_HAD
    if reason.exists():
        return reason.read_text(encoding="utf-8").strip()
    return f"found no .venv-formats/{row.environment}: run make setup-formats, which makes it or says why it cannot be had"


def python(environment: str) -> Path | None:
    """The interpreter of one environment of .venv-formats, if it was made; None for the name of none."""
    if not environment:
        return None
    directory = ENVIRONMENTS / environment
    return directory / "bin" / "python" if (directory / ".ready").exists() else None
