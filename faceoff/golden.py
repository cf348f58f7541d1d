"""Golden inputs and outputs: what every servable of a model must compute, on disk, on the wire and under load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceoff.errors import CorruptError, FaceoffError
from faceoff.signature import Arrays, Signature

BATCH_SIZES = (1, 2, 17, 64)


@dataclass(frozen=True, kw_only=True)
class Golden:
    """N rows of named inputs and the outputs of the served weights, same order. Arrays are batch first."""

    inputs: Arrays
    outputs: Arrays

    @property
    def num_rows(self) -> int:
        """N."""
        return len(next(iter(self.inputs.values())))

    def rows(self, start: int, count: int) -> Golden:
        """`count` rows from `start`, wrapping round at the end."""
        index = np.arange(start, start + count) % self.num_rows
        return Golden(
            inputs={name: array[index] for name, array in self.inputs.items()},
            outputs={name: array[index] for name, array in self.outputs.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The largest absolute difference found and, when it is too large or something else is wrong, the reason.

    `max_rel` is the same in units of the largest expected value: what that many digits of the answer are worth.
    """

    max_abs: float
    problem: str | None
    max_rel: float = float("inf")


def compare(found: Arrays, expected: Arrays, tolerance: float) -> Difference:
    """Compare named outputs: the set of names, shape, dtype, finiteness, then the largest absolute difference."""
    if sorted(found) != sorted(expected):
        return Difference(max_abs=float("inf"), problem=f"outputs are named {sorted(found)}, expected {sorted(expected)}")
    largest = 0.0
    for name, want in expected.items():
        got = np.asarray(found[name])
        if got.shape != want.shape:
            return Difference(max_abs=float("inf"), problem=f"{name!r} has shape {got.shape}, expected {want.shape}")
        if got.dtype != want.dtype:
            return Difference(max_abs=float("inf"), problem=f"{name!r} has dtype {got.dtype}, expected {want.dtype}")
        if not np.isfinite(got).all():
            return Difference(max_abs=float("inf"), problem=f"{name!r} holds NaN or Inf")
        if not np.isfinite(want).all():  # or any answer would be right
            return Difference(max_abs=float("inf"), problem=f"what is expected of {name!r} holds NaN or Inf")
        # np.maximum, not max, which loses a NaN
        largest = float(np.maximum(largest, np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0.0)))
    problem = None if largest <= tolerance else f"largest difference {largest:.3g} exceeds the tolerance {tolerance:.3g}"
    scale = max((float(np.abs(want).max(initial=0.0)) for want in expected.values()), default=0.0)
    return Difference(max_abs=largest, problem=problem, max_rel=largest / scale if scale else largest)


def write(directory: Path, golden: Golden) -> None:
    """Write inputs.npz and outputs.npz under `directory`. Raises FaceoffError for outputs that nothing could be held against."""
    if name := _not_finite(golden.outputs):
        raise FaceoffError(f"the golden outputs {name!r} hold NaN or Inf: nothing could be held against them")
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / "inputs.npz", **golden.inputs)  # type: ignore[arg-type]
    np.savez(directory / "outputs.npz", **golden.outputs)  # type: ignore[arg-type]


def read(directory: Path, signature: Signature) -> Golden:
    """Read what `write` wrote. Raises CorruptError when it does not fit the signature, or is no number."""
    golden = Golden(inputs=load(directory / "inputs.npz"), outputs=load(directory / "outputs.npz"))
    try:
        signature.check_inputs(golden.inputs)
        for spec in signature.outputs:
            spec.check(golden.outputs[spec.name])
        if name := _not_finite(golden.outputs):
            raise ValueError(f"{name!r} holds NaN or Inf")
    except (ValueError, KeyError) as error:
        raise CorruptError(f"golden data in {directory} does not fit the signature: {error}; run again: make train") from error
    return golden


def _not_finite(arrays: Arrays) -> str | None:
    return next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)


def load(path: Path, command: str = "make train") -> Arrays:
    """The arrays of one file. Raises CorruptError that names the `command` which writes it."""
    try:
        with np.load(path) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError) as error:
        raise CorruptError(f"cannot read {path}: {error}; run again: {command}") from error
