"""Is it rounding that parts two lock-step trainings? The same training once more in float64 says so.

A model with kinks (relu, max-pooling) makes a jump of a rounding that crosses one, so in float32 two right
implementations part, at some step that nobody can foretell. In float64 a rounding is 2^29 times finer and next to none
crosses: what still parts then is a difference of method. training.train asks this of every float32 training that parts, and
over a few steps of every model with running statistics: no loss reads those, and float32's bound for weights is coarse.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from faceoff import processes, progress
from training import ends, outcome
from training.job import FRAMEWORKS, Job

STATISTICS_STEPS = 20  # a wrong update of a running statistic shows after one


def steps_to_repeat(job: Job, directory: Path, apart: dict[str, Any]) -> int:
    """How many steps of the training in `directory` to repeat in float64; `apart` is how far its two sides are apart.

    All of them where float32 parts, in losses or in weights; a few for running statistics, in any precision; else none.
    """
    parted = apart["first_step_apart"] is not None or ends.parted(apart["ends"])
    if job.precision == "float64":
        return 0
    if job.precision == "float32" and parted:
        return job.num_steps
    return min(job.num_steps, STATISTICS_STEPS) if ends.has_statistics(directory) else 0


def in_float64(job: Job, directory: Path, num_steps: int) -> dict[str, Any]:
    """Repeat the first steps of the lock-step training in `directory` in float64, from the same initial weights and batches.

    Returns outcome.compare_losses of the two frameworks, training.ends' comparison as `ends` and, as `float32_noise` (or of
    the job's precision), how far each framework's losses are from its own float64 ones: what rounding alone does. The records
    are kept in `directory`/float64/.
    """
    # Side by side, as nothing is timed.
    exact = replace(job.with_steps(num_steps), precision="float64", threads=max(1, job.threads // 2))
    with tempfile.TemporaryDirectory(prefix=".float64-", dir=directory) as folder:
        plan = Path(folder)
        exact.write_plan(plan)
        shutil.copyfile(directory / "initial.npz", plan / "initial.npz")
        progress.say(f"train: both frameworks, {num_steps} of the same steps in float64, where rounding parts nothing")
        processes.run_stages([(f"training.train_{f}", ("--plan", str(plan), "--board", "off")) for f in FRAMEWORKS])
        for framework in FRAMEWORKS:
            outcome.keep(plan / framework, directory / "float64" / framework)
        found = ends.compare(plan, bound=ends.FLOAT64_BOUND)
    fine = {framework: outcome.read_record(directory / "float64", framework)["losses"] for framework in FRAMEWORKS}
    coarse = {framework: outcome.read_record(directory, framework)["losses"][:num_steps] for framework in FRAMEWORKS}
    noise = {f: outcome.compare_losses(coarse[f], fine[f], bound=outcome.APART) for f in FRAMEWORKS}
    return {
        **outcome.compare_losses(fine["torch"], fine["tf"], **exact.loss_bounds),
        f"{job.precision}_noise": {framework: found["max_abs_loss_difference"] for framework, found in noise.items()},
        "ends": found,
    }


def story(apart: dict[str, Any]) -> list[str]:
    """What `train.judge` found, for people: the trained weights, and what float64 says."""
    said = []
    if largest := apart["ends"]["weights"]:
        said.append(f"trained weights differ by at most {largest['max_difference']:.2g} ({largest['name']})")
    if exact := apart.get("float64"):
        parted = apart["first_step_apart"] is not None and "float32_noise" in exact
        noise = ", ".join(f"{framework} {value:.2g}" for framework, value in exact["float32_noise"].items()) if parted else ""
        largest, accuracy = exact["ends"]["weights"], exact["ends"]["test_accuracy"]["torch"]
        said.append(
            f"{'it is rounding: ' if parted else ''}in float64 losses differ by at most {exact['max_abs_loss_difference']:.2g} "
            f"over {exact['bound_steps']} steps, stated bound {exact['bound']:g}, trained weights by "
            f"{largest['max_difference']:.2g} ({largest['name']}), stated bound {largest['bound']:g}"
            + ("" if accuracy is None else ", test accuracies not at all")
            + (f"; each framework's float32 losses differ from its own float64 ones by up to {noise}" if noise else "")
        )
    return said
