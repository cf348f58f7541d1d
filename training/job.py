"""What the user asked for, checked: one model on one data set, how it is trained and where."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faceoff import presets, processes
from faceoff.devices import resolve
from faceoff.errors import UsageError, unknown
from faceoff.presets import ModelPreset
from training import optimizers, outcome
from training import plan as plans
from training.datasets import DATASETS, Dataset, load
from training.optimizers import Recipe

FRAMEWORKS = ("torch", "tf")
KINDS = ("lockstep", "native")
PRECISIONS = ("float32", "tf32", "bf16", "float64")
FLOAT64_BOUND = 1e-8  # over all steps; measured in 2,000 of them 2e-15 (cnn) and 1.6e-12 (dcgan) (docs/method.md)
BF16_BOUND = 0.05  # bfloat16 keeps 8 bits of a number, so it rounds 2^16 times as coarsely as float32


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training to be done in both frameworks. `device` is `cpu` or `cuda`, `threads` is of either framework."""

    preset: ModelPreset
    dataset: Dataset
    recipe: Recipe
    profile: str
    precision: str
    device: str
    threads: int

    @property
    def loss_bounds(self) -> dict[str, Any]:
        """How far lock-step losses may be apart, over the first steps and over those that are judged (training.outcome)."""
        if self.precision == "float64":
            return {"bound": FLOAT64_BOUND, "early_bound": FLOAT64_BOUND, "steps": None}
        if self.precision == "bf16":
            return {"bound": max(self.preset.training.loss_bound, BF16_BOUND), "early_bound": BF16_BOUND}
        return {"bound": self.preset.training.loss_bound, "early_bound": outcome.APART}

    @property
    def num_steps(self) -> int:
        """Optimizer steps."""
        return self.preset.training.steps[self.profile]

    def with_threads(self, threads: int) -> Job:
        """The same with another number of threads."""
        return replace(self, threads=threads)

    def with_steps(self, num_steps: int) -> Job:
        """The same, ended after `num_steps`."""
        training = replace(self.preset.training, steps={self.profile: num_steps})
        return replace(self, preset=replace(self.preset, training=training))

    def write_plan(self, directory: Path) -> dict[str, Any]:
        """Write the plan that both frameworks read; returns plan.json's content."""
        return plans.write(
            directory,
            preset=self.preset,
            dataset=self.dataset,
            recipe=self.recipe,
            profile=self.profile,
            precision=self.precision,
            threads=self.threads,
            device=self.device,
        )

    def describe(self) -> dict[str, Any]:
        """What every record says of it."""
        return {
            "model": self.preset.name,
            "dataset": self.dataset.describe(),
            "optimizer": self.recipe.to_dict(),
            "profile": self.profile,
            "precision": self.precision,
            "batch_size": self.preset.training.batch_size,
            "num_steps": self.num_steps,
            "threads": self.threads,
            "device": self.device,
        }


def check_kind(kind: str, seeds: int | None) -> None:
    """Raise UsageError for an unknown way to train, and for seeds that it does not take."""
    if kind not in KINDS:
        raise unknown("way to train", kind, list(KINDS), "TRAIN")
    if kind != "native" and seeds:
        raise UsageError(f"--seeds {seeds}: TRAIN={kind} trains once, expected none; use TRAIN=native for more")
    if kind == "native" and seeds == 1:
        raise UsageError("--seeds 1: expected at least 2, an equivalence test needs a spread (set SEEDS=...)")


def check(preset: ModelPreset, *, precision: str, profile: str, device: str) -> str:
    """The device that `device` stands for. Raises UsageError for options that no training of the model has."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, list(PRECISIONS), "PRECISION")
    if profile not in preset.training.steps:
        raise unknown("profile", profile, list(preset.training.steps), "PROFILE")
    found = resolve(device)
    if precision == "tf32" and found != "cuda":
        raise UsageError("--precision tf32: found device cpu; expected an NVIDIA GPU, which alone has TF32; use float32 or bf16")
    return found


def dataset_of(preset: ModelPreset, name: str) -> Dataset:
    """The data set called `name`, the model's first without one. Raises UsageError for one that the model is not made for."""
    name = name or preset.datasets[0]
    if name in DATASETS and name not in preset.datasets:
        raise UsageError(
            f"model {preset.name!r} is not sized for data set {name!r}: expected one of {', '.join(preset.datasets)}"
        )
    return load(name, preset)


def from_args(args: argparse.Namespace) -> Job:
    """The job that training.train's options describe. Raises UsageError for what does not fit."""
    preset = presets.model(args.model)
    device = check(preset, precision=args.precision, profile=args.profile, device=args.device)
    recipe = optimizers.choose(
        preset_name=preset.training.optimizer,
        preset_rate=preset.training.learning_rate,
        preset_momentum=preset.training.momentum,
        name=args.optimizer,
        rate=args.learning_rate,
    )
    return Job(
        preset=preset,
        dataset=dataset_of(preset, args.dataset),
        recipe=recipe,
        profile=args.profile,
        precision=args.precision,
        device=device,
        threads=args.threads or processes.usable_cores(),
    )
