"""How good and how fast an artifact is on the model's whole test set: a lower precision is worth its speed only if it is right.

Measured of every artifact of an export that has a lower precision, those in float32 included, so that both stand side by side.
An artifact that is more often wrong than presets/export.yaml allows is refused. The speed is indicative: other work may have
run beside it, and one process that calls its model is no server under load.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from faceoff import golden
from faceoff.evaluation import EvaluationSet
from faceoff.signature import Arrays

ROWS_PER_CALL = max(golden.BATCH_SIZES)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Accuracies are shares of right answers, None for a model that gives none; `test_accuracy_float32` is training's own."""

    test_accuracy: float | None
    test_accuracy_float32: float | None
    num_test_rows: int
    indicative_ms_per_row: (
        float  # median over the calls of ROWS_PER_CALL rows, the last and shorter one left out if there are more
    )


def measure(predict: Callable[[Arrays], Arrays], evaluation: EvaluationSet) -> Quality:
    """Ask for every row of the test set, ROWS_PER_CALL at a time."""
    answers: dict[str, list[np.ndarray]] = {name: [] for name in evaluation.rows.outputs}
    seconds_per_row = []
    num_rows = evaluation.rows.num_rows
    for start in range(0, num_rows, ROWS_PER_CALL):
        rows = {name: array[start : start + ROWS_PER_CALL] for name, array in evaluation.rows.inputs.items()}
        begin = time.perf_counter()
        found = predict(rows)
        seconds_per_row.append((time.perf_counter() - begin) / min(ROWS_PER_CALL, num_rows - start))
        for name, array in found.items():
            answers[name].append(array)
    whole = seconds_per_row[: max(num_rows // ROWS_PER_CALL, 1)]
    return Quality(
        test_accuracy=evaluation.accuracy({name: np.concatenate(arrays) for name, arrays in answers.items()}),
        test_accuracy_float32=evaluation.trained_accuracy,
        num_test_rows=num_rows,
        indicative_ms_per_row=statistics.median(whole) * 1e3,
    )
