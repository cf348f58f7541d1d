"""Data sets in numpy: one reader feeds both frameworks.

Images are NHWC float32 in [0, 1], series (steps, features) float32, labels int64. Splits are the published ones, or
drawn once from a fixed seed, so a data set is the same on every machine.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceoff.errors import unknown
from faceoff.presets import ModelPreset


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Inputs, each (rows, ...), and the targets of the same rows."""

    inputs: tuple[np.ndarray, ...]
    targets: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Training and test rows, and where they come from."""

    name: str
    source: str
    train: Rows
    test: Rows
    class_names: tuple[str, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row of the first input."""
        return tuple(self.train.inputs[0].shape[1:])

    def describe(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "name": self.name,
            "source": self.source,
            "num_train": len(self.train.targets),
            "num_test": len(self.test.targets),
            "input_shape": list(self.input_shape),
            "class_names": list(self.class_names),
        }


def load(name: str, preset: ModelPreset) -> Dataset:
    """The data set called `name`; `synthetic` is made to the preset's measure. Raises UsageError for an unknown one."""
    if name not in DATASETS:
        raise unknown("data set", name, list(DATASETS), "DATASET")
    return DATASETS[name](preset)


def _digits(preset: ModelPreset) -> Dataset:
    """8x8 handwritten digits (UCI Optical Recognition of Handwritten Digits, as shipped in scikit-learn)."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = (raw.images / 16.0).astype(np.float32)[..., np.newaxis]
    labels = raw.target.astype(np.int64)
    order = np.random.default_rng(1797).permutation(len(images))
    train, test = order[:1437], order[1437:]
    return Dataset(
        name="digits",
        source="scikit-learn's load_digits (UCI ML hand-written digits, 1,797 images of 8x8)",
        train=Rows(inputs=(images[train],), targets=labels[train]),
        test=Rows(inputs=(images[test],), targets=labels[test]),
        class_names=tuple(str(digit) for digit in range(10)),
    )


def _elsewhere(module: str, function: str) -> Callable[[ModelPreset], Dataset]:
    """A reader that is imported when it is asked for: each module imports this one."""

    def read(preset: ModelPreset) -> Dataset:
        dataset: Dataset = getattr(importlib.import_module(f"training.{module}"), function)(preset)
        return dataset

    return read


DATASETS: dict[str, Callable[[ModelPreset], Dataset]] = {
    "digits": _digits,
    "mnist1d": _elsewhere("datasets_mnist1d", "make"),
    "mnist": _elsewhere("datasets_files", "mnist"),
    "fashion-mnist": _elsewhere("datasets_files", "fashion_mnist"),
    "cifar10": _elsewhere("datasets_files", "cifar10"),
    "cifar100": _elsewhere("datasets_files", "cifar100"),
    "synthetic": _elsewhere("datasets_synthetic", "make"),
}
