"""One recipe as a torch optimizer; optim_tf.py is its pair, function by function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from training.optimizers import BETAS, EPSILON_HAT, WEIGHT_DECAY, Recipe, as_float32, corrected_epsilon


def build(recipe: Recipe, variables: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of `recipe` over the trainable ones of `variables`."""
    trained = [variable for variable in variables if variable.requires_grad]
    optimizer = _equal(recipe, trained) if recipe.equal else _native(recipe, trained)
    return optimizer


def apply(optimizer: torch.optim.Optimizer) -> None:
    """One update from the gradients that `backward` left in the variables."""
    optimizer.step()


def _equal(recipe: Recipe, variables: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """With the differences between the frameworks removed (training.optimizers)."""
    if recipe.name == "sgd":
        # Keras keeps m = momentum * m - rate * g and adds m; torch keeps m = momentum * m + g and subtracts
        # rate * m: the same at a constant learning rate.
        return torch.optim.SGD(variables, lr=recipe.learning_rate, momentum=as_float32(recipe.momentum))
    settings: dict[str, Any] = {"lr": recipe.learning_rate, "betas": BETAS, "eps": EPSILON_HAT}
    optimizer: torch.optim.Optimizer
    if recipe.name == "adamw":
        optimizer = torch.optim.AdamW(variables, weight_decay=WEIGHT_DECAY, **settings)
    else:
        optimizer = torch.optim.Adam(variables, **settings)
    taken = 0

    def use_epsilon_hat(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal taken
        taken += 1
        for group in optimizer.param_groups:
            group["eps"] = corrected_epsilon(taken)

    optimizer.register_step_pre_hook(use_epsilon_hat)
    return optimizer


def _native(recipe: Recipe, variables: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """With torch's own defaults for everything that the recipe does not say."""
    if recipe.name == "sgd":
        return torch.optim.SGD(variables, lr=recipe.learning_rate, momentum=recipe.momentum)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.name]
    optimizer: torch.optim.Optimizer = kind(variables, lr=recipe.learning_rate)
    return optimizer
