"""One recipe as a Keras optimizer; optim_torch.py is its pair, function by function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from training.optimizers import BETAS, EPSILON_HAT, WEIGHT_DECAY, Recipe, as_float32


def build(recipe: Recipe, variables: Iterable[Any]) -> keras.optimizers.Optimizer:
    """The optimizer of `recipe` over `variables`, its own variables made."""
    trained = list(variables)
    optimizer = _equal(recipe, trained) if recipe.equal else _native(recipe, trained)
    return optimizer


def apply(optimizer: keras.optimizers.Optimizer, gradients: Iterable[Any], variables: Iterable[Any], *, equal: bool) -> None:
    """One update. An `equal` one makes gradients dense first: Adam treats IndexedSlices, an embedding's, row by row."""
    given = [tf.convert_to_tensor(gradient) for gradient in gradients] if equal else list(gradients)
    optimizer.apply_gradients(zip(given, variables, strict=True))


def _equal(recipe: Recipe, variables: list[Any]) -> keras.optimizers.Optimizer:
    """With the differences between the frameworks removed (training.optimizers)."""
    if recipe.name == "sgd":
        optimizer = keras.optimizers.SGD(learning_rate=recipe.learning_rate, momentum=as_float32(recipe.momentum))
    else:
        settings: dict[str, Any] = {
            "learning_rate": recipe.learning_rate,
            "beta_1": BETAS[0],
            "beta_2": BETAS[1],
            "epsilon": EPSILON_HAT,
        }
        if recipe.name == "adamw":
            optimizer = keras.optimizers.AdamW(weight_decay=WEIGHT_DECAY, **settings)
        else:
            optimizer = keras.optimizers.Adam(**settings)
    optimizer.build(variables)
    return optimizer


def _native(recipe: Recipe, variables: list[Any]) -> keras.optimizers.Optimizer:
    """With Keras' own defaults for everything that the recipe does not say."""
    if recipe.name == "sgd":
        optimizer = keras.optimizers.SGD(learning_rate=recipe.learning_rate, momentum=recipe.momentum)
    else:
        kind = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[recipe.name]
        optimizer = kind(learning_rate=recipe.learning_rate)
    optimizer.build(variables)
    return optimizer
