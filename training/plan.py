"""The plan of one training: everything both frameworks are given, on disk, before either starts.

plan.json      preset, signature, seed, steps, threads, device
data.npz       train/<input>, train/targets, test/<input>, test/targets
batches.npy    int32 (steps, batch_size): the rows of every step, drawn once
initial.npz    the initial weights (training.weights)
golden/        inputs.npz; outputs are added when the models have been trained
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceoff.presets import ModelPreset
from faceoff.signature import Arrays, Signature
from training import golden_rows, tasks
from training.datasets import Dataset
from training.optimizers import Recipe

EVALUATION_ROWS = 256  # at a time, so that a test set of 10,000 rows does not need its activations all at once


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a framework's process reads. `directory` is the folder that is being built."""

    directory: Path
    module: str
    loss: str
    architecture: dict[str, Any]
    recipe: Recipe
    precision: str
    num_steps: int
    seed: int
    threads: int
    device: str
    signature: Signature
    train_inputs: Arrays
    train_targets: np.ndarray
    test_inputs: Arrays
    test_targets: np.ndarray
    batches: np.ndarray

    @property
    def initial_weights(self) -> Path:
        """Where the initial weights are, or will be once the first framework has drawn them."""
        return self.directory / "initial.npz"

    def checkpoint(self, framework: str) -> Path:
        """The trained weights of one framework, in the neutral form."""
        return self.directory / framework / "weights.npz"

    def outputs_of(self, framework: str, source: str) -> Path:
        """What `framework` computed with the weights that `source` trained."""
        return self.directory / framework / f"outputs_of_{source}.npz"

    def golden_inputs(self) -> Arrays:
        """The golden rows."""
        with np.load(self.directory / "golden" / "inputs.npz") as data:
            return {name: data[name] for name in data.files}


def write(
    directory: Path,
    *,
    preset: ModelPreset,
    dataset: Dataset,
    profile: str,
    threads: int,
    device: str,
    recipe: Recipe | None = None,
    precision: str = "float32",
) -> dict[str, Any]:
    """Draw the batches and the golden rows and write the plan; returns plan.json's content. No `recipe`: the preset's."""
    training = preset.training
    recipe = recipe or Recipe(name=training.optimizer, learning_rate=training.learning_rate, momentum=training.momentum)
    steps = training.steps[profile]
    signature, train, test = tasks.prepare(preset, dataset)
    rows = {"train/targets": train.targets, "test/targets": test.targets}
    rows |= {f"train/{name}": array for name, array in train.inputs.items()}
    rows |= {f"test/{name}": array for name, array in test.inputs.items()}
    np.savez(directory / "data.npz", **rows)  # type: ignore[arg-type]
    np.save(directory / "batches.npy", draw_batches(len(train.targets), training.batch_size, steps, training.seed))
    golden = golden_rows.draw(
        signature,
        test.inputs,
        count=preset.num_golden_rows,
        vocabulary=preset.architecture.get("vocabulary", 0),
        seed=training.seed,
    )
    (directory / "golden").mkdir()
    np.savez(directory / "golden" / "inputs.npz", **golden)  # type: ignore[arg-type]
    plan = {
        "module": preset.module,
        "loss": preset.loss,
        "architecture": preset.architecture,
        "recipe": recipe.to_dict(),
        "precision": precision,
        "num_steps": steps,
        "seed": training.seed,
        "threads": threads,
        "device": device,
        "signature": signature.to_dict(),
    }
    (directory / "plan.json").write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
    return plan


def read(directory: Path) -> Plan:
    """Read what `write` wrote."""
    data = json.loads((directory / "plan.json").read_text(encoding="utf-8"))
    signature = Signature.from_dict(data.pop("signature"))
    names = [spec.name for spec in signature.inputs]
    with np.load(directory / "data.npz") as rows:
        return Plan(
            directory=directory,
            signature=signature,
            train_inputs={name: rows[f"train/{name}"] for name in names},
            train_targets=rows["train/targets"],
            test_inputs={name: rows[f"test/{name}"] for name in names},
            test_targets=rows["test/targets"],
            batches=np.load(directory / "batches.npy"),
            **{**data, "recipe": Recipe(**data["recipe"])},
        )


def chunks(inputs: Arrays) -> Iterator[Arrays]:
    """Rows of named inputs, `EVALUATION_ROWS` at a time, in order."""
    for start in range(0, len(next(iter(inputs.values()))), EVALUATION_ROWS):
        yield {name: array[start : start + EVALUATION_ROWS] for name, array in inputs.items()}


def save_outputs(path: Path, *, golden: Arrays, test: Arrays) -> None:
    """Write the named outputs of the golden and of the test rows."""
    path.parent.mkdir(exist_ok=True)
    arrays = {f"golden/{name}": array for name, array in golden.items()}
    np.savez(path, **arrays, **{f"test/{name}": array for name, array in test.items()})  # type: ignore[arg-type]


def load_outputs(path: Path, rows: str) -> Arrays:
    """The named outputs of the `golden` or of the `test` rows."""
    with np.load(path) as data:
        return {name.removeprefix(f"{rows}/"): data[name] for name in data.files if name.startswith(f"{rows}/")}


def draw_batches(num_rows: int, batch_size: int, num_steps: int, seed: int) -> np.ndarray:
    """int32 (num_steps, batch_size): epochs of shuffled rows, cut into full batches; a rest is left out."""
    rng = np.random.default_rng([seed, 1])
    per_epoch = num_rows // batch_size
    if per_epoch < 1:
        raise ValueError(f"batch size {batch_size} exceeds the {num_rows} training rows")
    epochs = max(1, -(-num_steps // per_epoch))
    rows = [rng.permutation(num_rows)[: per_epoch * batch_size].reshape(per_epoch, batch_size) for _ in range(epochs)]
    return np.concatenate(rows)[:num_steps].astype(np.int32)
