"""The test set of a trained model and how good answers to it are, in numpy: one judge for both frameworks and every servable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faceoff import manifest
from faceoff.errors import CorruptError
from faceoff.golden import Golden
from faceoff.servables import Trained
from faceoff.signature import Arrays


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """The whole test set: what the served weights answered in the framework that trained them, and the right answers.

    `targets` (rows, ...) int64, or what the model's loss takes; `trained_accuracy` is training's own, None for a model without
    right answers.
    """

    rows: Golden
    targets: np.ndarray
    loss: str
    trained_accuracy: float | None

    def accuracy(self, outputs: Arrays) -> float | None:
        """The share of right answers of a servable, `outputs` being its answers to all rows in their order."""
        return accuracy(self.loss, next(iter(outputs.values())), self.targets)

    def problem(self, found: float | None, min_ratio: float) -> str | None:
        """Why the accuracy of a lower precision is too low beside training's; None where it is not, or there is none to have."""
        expected = self.trained_accuracy
        if found is None or expected is None or found >= min_ratio * expected:
            return None
        return (
            f"accuracy {found:.4f} on the {self.rows.num_rows} rows of the test set, float32 has {expected:.4f}: "
            f"expected at least {min_ratio:g} of it"
        )


def read(trained: Trained) -> EvaluationSet:
    """The test set that training kept. Raises CorruptError when it is not as training left it."""
    command = f"make train MODEL={trained.manifest.model}"
    served = trained.manifest.config["weights"]
    answers = f"{served}/outputs_of_{served}.npz"
    manifest.check_files(trained.directory, trained.manifest, command=command, only=("data.npz", answers))
    try:
        with np.load(trained.directory / "data.npz") as data:
            inputs = {spec.name: data[f"test/{spec.name}"] for spec in trained.signature.inputs}
            targets = data["test/targets"]
        with np.load(trained.directory / answers) as data:
            outputs = {spec.name: data[f"test/{spec.name}"] for spec in trained.signature.outputs}
    except KeyError as error:
        raise CorruptError(f"{trained.directory} has no test set: {error}; run again: {command}") from error
    return EvaluationSet(
        rows=Golden(inputs=inputs, outputs=outputs),
        targets=targets,
        loss=trained.preset["loss"],
        trained_accuracy=trained.manifest.metrics["served_accuracy"][served],
    )


def accuracy(loss: str, outputs: np.ndarray, targets: np.ndarray) -> float | None:
    """The share of right answers; None for a model that gives none (a generator, the identity).

    `outputs` (rows, ..., classes) float32, `targets` (rows, ...) int64. Of tokens, those with target 0 are not counted.
    """
    if loss == "cross_entropy":
        return float((outputs.argmax(-1) == targets).mean())
    if loss == "token_cross_entropy":
        return float((outputs.argmax(-1) == targets)[targets != 0].mean())
    return None
