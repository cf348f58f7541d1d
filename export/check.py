"""What every verifier does once its runtime has loaded an artifact: golden rows at every batch size, and a verdict.

In an export that has a lower precision it also answers the whole test set (export.quality).

A verifier (verify_mar, verify_tf, verify_onnx …) is a process that gives `check` a function from named inputs to
named outputs. It ends with exit code 1 when the artifact is refused.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export import formats, quality
from export.quality import Quality
from faceoff import cli, evaluation, golden, images, manifest, presets, servables
from faceoff.errors import FaceoffError, unknown
from faceoff.evaluation import EvaluationSet
from faceoff.golden import Golden
from faceoff.servables import Servable, Trained
from faceoff.signature import Arrays, TensorSpec

Predict = Callable[[Arrays], Arrays]
Load = Callable[[Path, Trained], tuple[str, Predict]]  # artifact to (runtime and its version, predict)


class RefusedError(FaceoffError):
    """The artifact does not compute the golden outputs; `details` holds the record of the check."""


@dataclass(kw_only=True)
class Check:
    """One artifact under examination: what is expected of it and what has been found."""

    servable: Servable
    trained: Trained
    tolerance: float
    reproduce: str
    precision: str = "float32"
    evaluation: EvaluationSet | None = None  # what it must also answer
    min_accuracy_ratio: float = 0.0
    runtime: str = "none"
    load_s: float | None = None
    checks: list[dict[str, Any]] = field(default_factory=list)
    quality: Quality | None = None

    def record(self, reason: str | None) -> dict[str, Any]:
        """The record of a verified artifact, or of one refused for `reason`."""
        found = self.servable.to_dict()
        largest = {
            # Infinity (a wrong name or shape, NaN) is not JSON: null says that no difference could be taken.
            name: max((check[name] for check in self.checks if check[name] is not None), default=None)
            for name in ("max_abs_difference", "max_rel_difference")
        }
        status = "verified" if reason is None else "refused"
        known = {"model": self.trained.manifest.model, **found, "precision": self.precision}
        judged = {"status": status, "reason": reason, **largest, **(asdict(self.quality) if self.quality else {})}
        how = {"tolerance": self.tolerance, "runtime": self.runtime, "load_s": self.load_s}
        return {"artifact": {**known, **judged, **how, "checks": self.checks, "reproduce": self.reproduce}}

    def refuse(self, reason: str) -> RefusedError:
        """The error that says so, with the command that shows it."""
        said = f"{self.servable.name} is refused: {reason}; tolerance {self.tolerance:g}; reproduce: {self.reproduce}"
        return RefusedError(said, self.record(reason))


def parser(prog: str, description: str | None) -> cli.Parser:
    """The options that every verifier takes."""
    options = cli.Parser(prog=prog, description=description)
    options.add_model()
    options.add_argument("--version", type=cli.positive_int, default=1, help="version of the servables (default: %(default)s)")
    options.add_argument("--artifact", required=True, help="name of the artifact, e.g. torch-onnx")
    options.add_store()
    return options


def main(module: str, description: str | None, load: Load, argv: list[str] | None) -> int:
    """The `main` of the verifier `module`, whose runtime `load` loads an artifact."""

    def command(args: argparse.Namespace) -> dict[str, Any]:
        return verify(args, load, module)

    return cli.run(parser(f"python -m {module}", description), command, argv)


def verify(args: argparse.Namespace, load: Load, verifier: str) -> dict[str, Any]:
    """Load one artifact and check it. Raises RefusedError, and CorruptError before anything is loaded."""
    store = cli.store(args)
    trained = servables.read_trained(store, args.model)
    directory, record, found = servables.read_exported(store, args.model, args.version)
    if args.artifact not in found:
        raise unknown("artifact", args.artifact, list(found), "--artifact")
    servable = found[args.artifact]
    command = f"make export MODEL={args.model} VERSION={args.version}"
    # A model may have no rows of other lengths and no images; what lies there without being the export's is not taken for them.
    beside = [n for n in ("lengths", "images") if (directory / n).exists() or any(f.startswith(f"{n}/") for f in record.files)]
    manifest.check_files(directory, record, command=command, only=(servable.path, *beside))
    python = formats.BY_NAME[servable.name].interpreter()
    interpreter = f".venv-formats/{python.parent.parent.name}/bin/python" if python else "python"
    reproduce = f"{interpreter} -m {verifier} --model {args.model} --version {args.version} --artifact {servable.name}"
    preset, precision = presets.export(), formats.BY_NAME[servable.name].precision
    check = Check(
        servable=servable,
        trained=trained,
        tolerance=tolerance(preset, trained, precision, servable.format),
        reproduce=reproduce,
        precision=precision,
        evaluation=evaluation.read(trained) if formats.has_lower_precision(found) else None,
        min_accuracy_ratio=preset.min_accuracy_ratio,
    )
    begin = time.perf_counter()
    try:
        check.runtime, predict = load(directory / servable.path, trained)
    except FaceoffError as error:
        raise check.refuse(str(error)) from error
    check.load_s = time.perf_counter() - begin
    pictures = images.read(directory, trained.signature) if images.decoded_by(servable.format) else {}
    return run(check, predict, other_lengths(directory, trained), pictures)


def tolerance(preset: presets.ExportPreset, trained: Trained, precision: str, kind: str) -> float:
    """The largest absolute difference from the golden outputs that is allowed; presets/export.yaml says of what it is made."""
    factor = preset.tolerance_factor(precision, kind)
    if precision == "float32":
        return float(trained.preset["tolerances"]["artifact"] * factor)
    return factor * max(float(np.abs(output).max()) for output in trained.golden.outputs.values())


def other_lengths(directory: Path, trained: Trained) -> list[Golden]:
    """Rows of other lengths than the data set's and what they must give (export.reference_torch), of a model that takes them."""
    folders = sorted((directory / "lengths").glob("*"))
    return [golden.read(folder, trained.signature) for folder in folders]


def run(check: Check, predict: Predict, lengths: list[Golden], pictures: Mapping[str, Golden] | None = None) -> dict[str, Any]:
    """Compare every golden row at every batch size, then the rows of other lengths, then golden images by their encoding.

    Then judge the answers to the test set. Returns the record of a verified artifact. Raises RefusedError.
    """
    for batch_size, kind, parts in _plan(check.trained.golden, lengths, pictures or {}):
        absolute = relative = 0.0
        where = ", ".join([f"batch of {batch_size}", *(f"{name} {value}" for name, value in kind.items() if value)])
        for rows in parts:
            try:
                answer = predict(rows.inputs)
            except Exception as error:  # a runtime's errors share no base
                raise check.refuse(f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
            difference = golden.compare(answer, rows.outputs, check.tolerance)
            absolute, relative = max(absolute, difference.max_abs), max(relative, difference.max_rel)
            if difference.problem:
                break
        finite = absolute != float("inf")
        check.checks.append(
            {
                "batch_size": batch_size,
                **kind,
                "max_abs_difference": absolute if finite else None,
                "max_rel_difference": relative if finite else None,
            }
        )
        if difference.problem:
            raise check.refuse(f"{where}: {difference.problem}")
    if check.evaluation:
        check.quality = quality.measure(predict, check.evaluation)
        if problem := check.evaluation.problem(check.quality.test_accuracy, check.min_accuracy_ratio):
            raise check.refuse(problem)
    return check.record(None)


def _plan(
    expected: Golden, lengths: list[Golden], pictures: Mapping[str, Golden]
) -> Iterator[tuple[int, dict[str, Any], Iterator[Golden]]]:
    """(rows a call, their length where it is not the data set's and their encoding where they are images, the calls)."""

    def calls(rows: Golden, batch_size: int) -> Iterator[Golden]:
        return (rows.rows(start, batch_size) for start in range(0, rows.num_rows, batch_size))

    for batch_size in golden.BATCH_SIZES:
        yield batch_size, {"length": None, "encoding": None}, calls(expected, batch_size)
    for rows in lengths:
        length = next(iter(rows.inputs.values())).shape[1]
        yield rows.num_rows, {"length": length, "encoding": None}, iter([rows])
    for encoding, rows in pictures.items():
        for batch_size in golden.BATCH_SIZES:
            yield batch_size, {"length": None, "encoding": encoding}, calls(rows, batch_size)


def compare_inputs(found: dict[str, Any], trained: Trained, describe: Callable[[TensorSpec], Any]) -> None:
    """Raise FaceoffError unless the inputs that a runtime shows are the signature's, in the runtime's own words."""
    expected = {spec.name: describe(spec) for spec in trained.signature.inputs}
    if found != expected:
        raise FaceoffError(f"inputs are {found}, expected {expected}")
