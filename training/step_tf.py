"""One training step in TensorFlow, in any of its modes; step_torch.py is its pair, function by function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training import optim_tf
from training.losses_tf import Phase
from training.optimizers import Recipe

MODES = ("function", "eager", "xla")  # the first is the default


def set_precision(precision: str) -> None:
    """Of the whole process: TF32 on or off, numbers of float64 or float32; in bf16 products and convolutions in
    bfloat16, weights in float32.

    Before the model is built: its layers take the type when they are made.
    """
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    keras.config.set_floatx("float64" if precision == "float64" else "float32")  # the optimizer's rate is one too
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bf16" else keras.config.floatx())


def tensor(array: np.ndarray) -> tf.Tensor:
    """`array` on the device, real numbers in the type that `set_precision` set."""
    return tf.constant(array, keras.config.floatx() if np.issubdtype(array.dtype, np.floating) else None)


def make(
    mode: str, *, recipe: Recipe, precision: str, phases: Sequence[Phase], inputs: Sequence[tf.Tensor], targets: tf.Tensor
) -> Callable[[tf.Tensor], float]:
    """A function from the rows of a batch, int32 (batch,), to its loss on the host, summed over the phases."""
    optimizers = [optim_tf.build(recipe, phase.parameters) for phase in phases]

    def update(rows: tf.Tensor) -> tf.Tensor:
        batch, answers = [tf.gather(array, rows) for array in inputs], tf.gather(targets, rows)
        total = 0.0
        for phase, optimizer in zip(phases, optimizers, strict=True):
            with tf.GradientTape() as tape:
                loss = tf.cast(phase.loss(batch, answers), keras.config.floatx())  # in bf16 it may come as bfloat16
            gradients = tape.gradient(loss, phase.parameters)
            optim_tf.apply(optimizer, gradients, phase.parameters, equal=recipe.equal)
            total += loss
        return total

    taken = _in_mode(mode, update)

    def step(rows: tf.Tensor) -> float:
        return float(taken(rows))  # waits for the device: a step's time is that of its work

    return step


def _in_mode(mode: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as it stands, or traced at its first call, and compiled by XLA if asked: forward, backward and update."""
    if mode == "eager":
        return function
    assert mode in ("function", "xla"), mode
    traced: Callable[..., Any] = tf.function(function, jit_compile=mode == "xla")
    return traced
