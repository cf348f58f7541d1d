"""Is it rounding that parts two lock-step trainings? The same training once more in float64 says so.

A model with kinks (relu, max-pooling) makes a jump of a rounding that crosses one, so in float32 two right
implementations part, at some step that nobody can foretell. In float64 a rounding is 2^29 times finer and next to none
crosses: what still parts then is a difference of method. training.train asks this of every float32 training whose losses part.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from faceoff import processes, progress
from training import outcome
from training.job import FRAMEWORKS, Job


def in_float64(job: Job, directory: Path) -> dict[str, Any]:
    """Repeat the lock-step training in `directory` in float64, from the same initial weights and batches.

    Returns outcome.compare_losses of the two frameworks and, as `float32_noise`, how far each framework's float32
    losses are from its own float64 ones: what rounding alone does. The records are kept in `directory`/float64/.
    """
    exact = replace(job, precision="float64")
    with tempfile.TemporaryDirectory(prefix=".float64-", dir=directory) as folder:
        plan = Path(folder)
        exact.write_plan(plan)
        shutil.copyfile(directory / "initial.npz", plan / "initial.npz")
        for framework in FRAMEWORKS:
            progress.say(f"train: {framework}, the same steps in float64: is it rounding that parts the losses?")
            processes.run_stage(f"training.train_{framework}", "--plan", str(plan), "--board", "off")
            outcome.keep(plan / framework, directory / "float64" / framework)
    fine = {framework: outcome.read_record(directory / "float64", framework)["losses"] for framework in FRAMEWORKS}
    coarse = {framework: outcome.read_record(directory, framework)["losses"] for framework in FRAMEWORKS}
    noise = {f: outcome.compare_losses(coarse[f], fine[f], bound=outcome.APART) for f in FRAMEWORKS}
    return {
        **outcome.compare_losses(fine["torch"], fine["tf"], **exact.loss_bounds),
        "float32_noise": {framework: found["max_abs_loss_difference"] for framework, found in noise.items()},
    }
