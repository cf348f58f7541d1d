"""Native training: each framework its own way, for several seeds, and whether they arrive at the same accuracy.

Each framework trains with its own initializers, its own shuffling and its own defaults for everything that the
recipe does not say (training.optimizers). Seed s of one has nothing in common with seed s of the other, so the two
lists of accuracies are independent and the test is Welch's (training.equivalence). What it speaks about is the mean
over seeds on this one test set.

Written to results/<run>/training/<model>/study/, all of it or nothing: study.json and runs/<framework>-seed-<s>/record.json.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import environment, processes, progress
from faceoff.errors import UsageError
from faceoff.presets import ModelPreset
from training import equivalence, outcome
from training.datasets import Rows
from training.job import FRAMEWORKS, Job

MIN_STEPS = 20  # fewer are chance, and equal chances are no equal accuracy


def run(job: Job, *, num_seeds: int, directory: Path) -> dict[str, Any]:
    """Train every seed (at least 2) in both frameworks and write study.json; returns what goes on the JSON line."""
    if reason := why_not(job.preset, job.profile, num_answers(job.preset, job.dataset.test)):
        raise UsageError(f"model {job.preset.name!r} {reason}: TRAIN=native compares accuracies, use TRAIN=lockstep")
    seeds = [job.preset.training.seed + index for index in range(num_seeds)]
    with outcome.replacing_record(directory) as kept:
        records = _train(job, seeds, kept)
        step = 1 / num_answers(job.preset, job.dataset.test)
        study = {**job.describe(), **judge(records, seeds, margin=job.preset.training.accuracy_margin, step=step)}
        study["environment"] = environment.record()
        (kept / "study.json").write_text(json.dumps(study, indent=1) + "\n", encoding="utf-8")
    _show(study)
    return {
        "model": job.preset.name,
        "record": str(directory / "study.json"),
        "num_seeds": num_seeds,
        "accuracy": study["accuracy"],
        "equivalence": study["equivalence"],
        "verdict": study["verdict"],
    }


def num_answers(preset: ModelPreset, test: Rows) -> int:
    """How many answers of the test set are right or wrong: its rows, or its tokens that count (faceoff.evaluation)."""
    return int((test.targets != 0).sum()) if preset.loss == "token_cross_entropy" else len(test.targets)


def why_not(preset: ModelPreset, profile: str, num_test: int | None = None) -> str:
    """Why the accuracies of two native trainings of a model say nothing, as the rest of a sentence; empty when they do.

    `num_test` is `num_answers`, where the data set is known.
    """
    steps, margin = preset.training.steps[profile], preset.training.accuracy_margin
    if preset.loss in {"none", "adversarial"}:
        return "has no right answers, so no accuracy"
    if steps < MIN_STEPS:
        return f"takes {steps} training steps in profile {profile}, which teach it nothing"
    if num_test is not None and num_test * margin < 1:
        return f"is tested on {num_test} answers, of which one is more than the margin of {margin:g}"
    return ""


def judge(records: dict[str, list[dict[str, Any]]], seeds: list[int], *, margin: float, step: float = 0.0) -> dict[str, Any]:
    """The part of study.json that follows from the records, one list a framework in the order of `seeds`.

    Accuracies are multiples of `step` (0: any).
    """
    accuracy = {framework: [float(record["test_accuracy"]) for record in records[framework]] for framework in FRAMEWORKS}
    result = equivalence.tost(accuracy["torch"], accuracy["tf"], margin=margin, step=step)
    return {
        "seeds": seeds,
        "accuracy": accuracy,
        "final_loss": {f: [float(np.mean(record["losses"][-20:])) for record in records[f]] for f in FRAMEWORKS},
        "losses": {f: [record["losses"] for record in records[f]] for f in FRAMEWORKS},
        "versions": {f: records[f][0]["version"] for f in FRAMEWORKS},
        "modes": {f: records[f][0]["mode"] for f in FRAMEWORKS},
        "test": "two one-sided Welch t tests",
        "equivalence": result.to_dict(),
        "verdict": result.verdict,
    }


def _train(job: Job, seeds: list[int], directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Both frameworks side by side, half the cores each: nothing here is timed."""
    job = job.with_threads(max(1, job.threads // 2))
    records: dict[str, list[dict[str, Any]]] = {framework: [] for framework in FRAMEWORKS}
    with tempfile.TemporaryDirectory(prefix=".plan-", dir=directory) as folder:
        plan = Path(folder)
        job.write_plan(plan)
        for seed in seeds:
            progress.say(
                f"train: native, seed {seed}, {job.num_steps} steps of {job.preset.training.batch_size} in both frameworks"
            )
            names = {framework: f"{framework}-seed-{seed}" for framework in FRAMEWORKS}
            processes.run_stages(
                [
                    (f"training.train_{f}", ("--plan", str(plan), "--name", name, "--native-seed", str(seed)))
                    for f, name in names.items()
                ]
            )
            for framework, name in names.items():
                records[framework].append(outcome.read_record(plan, name))
                outcome.keep(plan / name, directory / "runs" / name)
                shutil.rmtree(plan / name)  # weights
    return records


def _show(study: dict[str, Any]) -> None:
    rows = [
        [seed, *(f"{study['accuracy'][framework][index]:.4f}" for framework in FRAMEWORKS)]
        for index, seed in enumerate(study["seeds"])
    ]
    rows.append(["mean", *(f"{np.mean(study['accuracy'][framework]):.4f}" for framework in FRAMEWORKS)])
    progress.table("Test accuracy, each framework its own way", ["seed", *FRAMEWORKS], rows)
    result = study["equivalence"]
    low, high = result["interval"]
    more = f" (about {result['advice']} of each)" if result["advice"] else ""
    progress.say(
        f"train: {study['verdict']}{more}; torch minus tf {result['difference']:+.4f}, "
        f"{100 * (1 - 2 * result['alpha']):.0f}% interval {low:+.4f} to {high:+.4f}, margin {result['margin']:g}, "
        f"TOST p {result['p_value']:.3g}"
    )
