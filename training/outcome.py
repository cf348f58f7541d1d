"""Reading, keeping and comparing what the frameworks' processes leave behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import progress
from faceoff.errors import FaceoffError
from faceoff.store import replacing_directory

APART = 1e-4  # losses further apart than this have parted
# The first steps are held to APART in every model: rounding has had no time to grow, so more is a difference of method.
EARLY_STEPS = 3
BOUND_STEPS = 200  # the steps that a model's float32 bound is stated for; later ones are only reported
MAX_OTHERS_PERCENT = 5.0  # of the cores' time; a machine that is busy with something else measures that


def read_record(directory: Path, name: str) -> dict[str, Any]:
    """record.json of one training, by the name of its folder."""
    data: dict[str, Any] = json.loads((directory / name / "record.json").read_text(encoding="utf-8"))
    return data


def keep(source: Path, target: Path) -> None:
    """Copy what a study keeps of one training: the record and the TensorBoard log, not the weights."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    shutil.copyfile(source / "record.json", target / "record.json")
    if (source / "tensorboard").is_dir():
        shutil.copytree(source / "tensorboard", target / "tensorboard")


@contextmanager
def replacing_record(final: Path) -> Iterator[Path]:
    """store.replacing_directory for what a comparison found; says so before it begins where an earlier one will be lost."""
    if final.exists():
        progress.say(f"train: {final} holds an earlier record; it will be replaced when this one succeeds (RUN= keeps both)")
    with replacing_directory(final) as directory:
        yield directory


@contextmanager
def keeping_evidence(source: Path, target: Path) -> Iterator[None]:
    """When the block refuses the trainings in `source`, keep all their records in `target`, and say where.

    The next block that ends well removes them.
    """
    try:
        yield
    except FaceoffError as error:
        with replacing_directory(target) as kept:
            for record in source.rglob("record.json"):
                keep(record.parent, kept / record.parent.relative_to(source))
        progress.say(f"train: the losses and times of both sides are kept in {target}")
        error.details["evidence"] = str(target)
        raise
    shutil.rmtree(target, ignore_errors=True)


def busy(name: str, record: dict[str, Any]) -> list[str]:
    """Why the times of one training, called `name`, are not to be believed: others used the cores; empty when they did not."""
    others = record["others_percent"]
    limit = MAX_OTHERS_PERCENT
    return [f"{name}: others used {others:.0f}% of the cores' time, limit {limit:g}%"] if others > limit else []


def compare_losses(
    torch: list[float], tf: list[float], *, bound: float, early_bound: float = APART, steps: int | None = BOUND_STEPS
) -> dict[str, Any]:
    """How far two lock-step trainings are apart; steps count from 0 here, from 1 in sentences.

    Judged over the first `steps`, or over all of them (None).
    """
    apart = np.abs(np.subtract(torch, tf, dtype=np.float64))
    apart = np.where(np.isnan(apart), np.inf, apart)  # a loss that is no number agrees with nothing
    limits = np.where(np.arange(len(apart)) < EARLY_STEPS, min(early_bound, bound), bound)
    return {
        "bound": bound,
        "early_bound": min(early_bound, bound),
        "bound_steps": len(apart[:steps]),
        "max_abs_loss_difference": float(apart.max(initial=0.0)),
        "max_abs_loss_difference_in_bound_steps": float(apart[:steps].max(initial=0.0)),
        "first_step_apart": _first(apart > APART),
        "first_step_beyond_bound": _first((apart > limits)[:steps]),
    }


def require_lockstep(comparison: dict[str, Any], *, model: str, what: str) -> None:
    """Raise FaceoffError, naming the step, when the losses leave the stated bound within the steps it is stated for."""
    step = comparison["first_step_beyond_bound"]
    if step is None:
        return
    limit = comparison["early_bound"] if step < EARLY_STEPS else comparison["bound"]
    reason = (
        "before any update, so the models or the batches differ; "
        f"the layer where it starts: python -m training.compare_layers --model {model}"
        if step == 0
        else "after equal first losses, so the updates differ, or rounding grows too fast at this learning rate"
    )
    raise FaceoffError(
        f"{what}: the losses are more than {limit:g} apart at step {step + 1} of {comparison['bound_steps']} "
        f"(at most {comparison['max_abs_loss_difference_in_bound_steps']:.3g}), {reason}",
        {"lockstep": comparison, "max_abs_loss_difference": comparison["max_abs_loss_difference"]},
    )


def _first(where: np.ndarray) -> int | None:
    found = np.flatnonzero(where)
    return int(found[0]) if len(found) else None
