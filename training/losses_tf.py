"""Losses in TensorFlow, as the phases of one training step; losses_torch.py is its pair, function by function.

Most models have one phase: the loss of the outputs, over all variables. A pair of networks that train each other
has more, run in order in every step, each with its own variables and so its own optimizer; its model file says
which, in `phases(model)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class Phase(NamedTuple):
    """`loss(inputs, targets)` is a scalar; its gradients are taken of `parameters`."""

    name: str
    parameters: list[keras.Variable]
    loss: Callable[[Sequence[tf.Tensor], tf.Tensor], tf.Tensor]


def phases(pair: ModuleType, model: keras.Model, loss: str) -> list[Phase]:
    """The phases of one training step of `model`, which `pair` built; none where there is nothing to train."""
    if hasattr(pair, "phases"):
        return [Phase(*phase) for phase in pair.phases(model)]
    parameters = list(model.trainable_variables)
    if not parameters:
        return []
    measure = loss_of(loss)
    return [Phase("model", parameters, lambda inputs, targets: measure(forward(model, inputs, training=True), targets))]


def loss_of(loss: str) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """(outputs, targets) to a scalar."""
    return {"cross_entropy": cross_entropy, "token_cross_entropy": token_cross_entropy}[loss]


def cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean over rows of logits (rows, classes) and targets (rows,)."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, tf.cast(logits, keras.config.floatx())))


def token_cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean over tokens of logits (rows, length, vocabulary) and targets (rows, length) whose target is not 0."""
    logits = tf.cast(logits, keras.config.floatx())
    counted = tf.cast(targets != 0, logits.dtype)
    of_tokens = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    return tf.reduce_sum(of_tokens * counted) / tf.reduce_sum(counted)


def forward(model: keras.Model, inputs: Sequence[tf.Tensor], *, training: bool) -> Any:
    """Call `model` with its inputs in the signature's order."""
    return model(list(inputs) if len(inputs) > 1 else inputs[0], training=training)
