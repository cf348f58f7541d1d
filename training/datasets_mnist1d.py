"""`mnist1d`: 4,000 training and 1,000 test series of 40 steps, made on this machine (Greydanus and Kobak, arXiv:2011.14439).

PyPI's mnist1d is the authors' generator. It is installed without its dependencies: of matplotlib it needs the name
only, to draw pictures, so an empty module stands in for it while the generator is imported.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from types import ModuleType
from typing import Any

import numpy as np

from faceoff.presets import ModelPreset
from training.datasets import Dataset, Rows

SEED = 42  # the published one


def make(preset: ModelPreset) -> Dataset:
    """float32 (rows, 40, 1) with mean 0 and deviation 1 over all, int64 classes; the published sizes, split and seed."""
    generator = _generator()
    state, numpy_state = random.getstate(), np.random.get_state()  # the generator seeds the global ones
    try:
        data = generator.make_dataset(generator.get_dataset_args())
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)

    def rows(x: np.ndarray, y: np.ndarray) -> Rows:
        return Rows(inputs=(x.astype(np.float32)[..., np.newaxis],), targets=y.astype(np.int64))

    return Dataset(
        name="mnist1d",
        source=f"PyPI's mnist1d, made with seed {SEED} (arXiv:2011.14439), 5,000 series of 40 steps",
        train=rows(data["x"], data["y"]),
        test=rows(data["x_test"], data["y_test"]),
        class_names=tuple(str(digit) for digit in range(10)),
    )


def _generator() -> Any:
    stand_ins = [] if importlib.util.find_spec("matplotlib") else ["matplotlib", "matplotlib.pyplot"]
    sys.modules.update({name: ModuleType(name) for name in stand_ins})
    try:
        return importlib.import_module("mnist1d.data")
    finally:
        for name in stand_ins:
            del sys.modules[name]
