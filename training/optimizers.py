"""The recipe of an optimizer, as both frameworks are given it. Neither framework is imported here.

`equal` recipes take the differences between the frameworks out (lock-step); the others leave each framework
everything that the recipe does not say (native):

| item | torch's own | Keras' own | equal |
|---|---|---|---|
| Adam, AdamW epsilon | 1e-8, beside the corrected root | 1e-7, "epsilon-hat", beside the uncorrected root | 1e-7, "epsilon-hat" |
| AdamW weight decay | 0.01 | 0.004 | 0.01, decoupled, on every trainable variable |
| decay rates (momentum, betas, weight decay) | float64 | rounded to float32 by a cast | numbers that float32 has |
| gradient of an embedding | dense | IndexedSlices, which Adam applies row by row | dense |
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from faceoff.errors import UsageError, unknown
from faceoff.presets import OPTIMIZERS

# Learning rates that are used when --optimizer names another optimizer than the preset's.
DEFAULT_LEARNING_RATES = {"sgd": 0.01, "adam": 0.001, "adamw": 0.001}
MOMENTUM = 0.9


def as_float32(value: float) -> float:
    """The nearest number that float32 has.

    Keras rounds decay rates to it before it computes with them, which makes 1 - 0.999^t larger by 5e-5 of itself than
    torch's; given such numbers, both compute with the same, in float64 too.
    """
    return float(np.float32(value))


BETAS = (as_float32(0.9), as_float32(0.999))  # both frameworks' own, and those of arXiv:1412.6980
EPSILON_HAT = 1e-7  # Keras' own
WEIGHT_DECAY = as_float32(0.01)  # torch's own for AdamW


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """SGD with momentum, Adam (arXiv:1412.6980) or AdamW (decoupled weight decay, arXiv:1711.05101)."""

    name: str
    learning_rate: float
    momentum: float = MOMENTUM  # of SGD only
    equal: bool = True

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise unknown("optimizer", self.name, list(OPTIMIZERS), "OPTIMIZER")
        if not 0 < self.learning_rate < math.inf or not 0 <= self.momentum < 1:
            raise UsageError(
                f"optimizer {self.name}: found learning rate {self.learning_rate:g} and momentum {self.momentum:g}; "
                "expected a finite rate above 0 and a momentum of at least 0 and below 1"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for plan.json."""
        return asdict(self)

    def native(self) -> Recipe:
        """The same with each framework's own defaults for everything else."""
        return replace(self, equal=False)

    def describe(self) -> str:
        """For people: `SGD, learning rate 0.01, momentum 0.9`."""
        label = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[self.name]
        momentum = f", momentum {self.momentum:g}" if self.name == "sgd" else ""
        return f"{label}, learning rate {self.learning_rate:g}{momentum}"


def choose(*, preset_name: str, preset_rate: float, preset_momentum: float, name: str = "", rate: float | None = None) -> Recipe:
    """The preset's recipe, or `name` instead of it. Another optimizer than the preset's brings its own learning rate."""
    name = name or preset_name
    if rate is None:
        rate = preset_rate if name == preset_name else DEFAULT_LEARNING_RATES.get(name, 1.0)
    momentum = preset_momentum if name == preset_name else MOMENTUM
    return Recipe(name=name, learning_rate=rate, momentum=momentum)


def corrected_epsilon(step: int, epsilon_hat: float = EPSILON_HAT, beta2: float = BETAS[1]) -> float:
    """The epsilon that makes torch's Adam at `step` (1 is the first) what "epsilon-hat" makes Keras'.

    Keras computes m * sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + eps) (the form at the end of section 2 of
    arXiv:1412.6980), torch m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps): equal when torch's epsilon is
    eps / sqrt(1 - beta2^t), which falls from 32 eps at the first step to eps.
    """
    return float(epsilon_hat / (1.0 - beta2**step) ** 0.5)
