"""What two lock-step trainings end with: their trained weights and their accuracy, held against each other.

Losses do not read everything that is trained: batch normalization's running statistics are only read in evaluation, and the last
update by no loss at all. The weights are compared in the neutral form, running statistics included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from faceoff.errors import FaceoffError
from training import outcome, weights
from training.job import FRAMEWORKS

# Of a variable's largest value where that is above 1. In float64 the weights are equal to 1e-12 after 2,000 steps; what is left
# is that they are kept in float32, which rounds by 6e-8.
FLOAT64_BOUND = 1e-6
# Rounding alone: at most 1.0e-3 in `cnn` (which has kinks), 1.8e-4 in a model without batch normalization (the biases of
# attention's keys, which no output reads), else 2e-5. What is beyond is no fault yet: float64 says what it is.
FLOAT32_BOUND = 2e-3


def compare(directory: Path, *, bound: float) -> dict[str, Any]:
    """The weights and the test accuracies that the two trainings in `directory` ended with.

    {"weights": {"name", "max_difference", "bound"} of the variable that differs most, None without variables, "test_accuracy"}.
    """
    sides = [weights.load(directory / framework / "weights.npz") for framework in FRAMEWORKS]
    weights.check(sides[0], weights.shapes(sides[1]), f"what torch trained in {directory}")
    differences = {name: _difference(sides[0][name], sides[1][name]) for name in sides[0]}
    name = max(differences, key=lambda name: differences[name], default=None)
    return {
        "weights": name and {"name": name, "max_difference": differences[name], "bound": bound},
        "test_accuracy": {framework: outcome.read_record(directory, framework)["test_accuracy"] for framework in FRAMEWORKS},
    }


def parted(found: dict[str, Any]) -> bool:
    """Whether a variable is further apart than the bound of `found`, which `compare` returned."""
    largest = found["weights"]
    return largest is not None and largest["max_difference"] > largest["bound"]


def require_equal(found: dict[str, Any], *, what: str) -> None:
    """Raise FaceoffError, naming the variable, for weights beyond the bound or for accuracies that are not the same."""
    largest, accuracy = found["weights"], found["test_accuracy"]
    if parted(found):
        raise FaceoffError(
            f"{what}: the losses agree and the trained weights do not: {largest['name']!r} differs by "
            f"{largest['max_difference']:.3g}, stated bound {largest['bound']:g}; its update differs, which no loss reads",
            {"ends": found},
        )
    if accuracy["torch"] != accuracy["tf"]:
        raise FaceoffError(
            f"{what}: the trained weights agree, their test accuracies do not: torch {accuracy['torch']}, tf {accuracy['tf']}: "
            "evaluation differs",
            {"ends": found},
        )


def has_statistics(directory: Path) -> bool:
    """Whether the model that was trained in `directory` keeps running statistics."""
    return any(map(weights.is_statistic, weights.load(directory / FRAMEWORKS[0] / "weights.npz")))


def _difference(torch: np.ndarray, tf: np.ndarray) -> float:
    """The largest difference of one variable, in units of its largest value where that is above 1; infinity for no number."""
    apart = np.abs(np.subtract(torch, tf, dtype=np.float64)).max(initial=0.0)
    return float(apart / np.abs(torch).max(initial=1.0)) if np.isfinite(apart) else float("inf")
