"""`rnn`, `lstm` and `gru` in Keras on TensorFlow; recurrent_torch.py is its pair, function by function.

Input `sequences` (batch, steps, features) float32, output `logits` (batch, classes) float32.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from training.layers_tf import gru, lstm, rnn

CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru}


def classifier(*, shape: tuple[int, ...], num_classes: int, cell: str, units: int, num_layers: int) -> keras.Model:
    """Recurrent layers of `units` one on the other, dense on the last step's output."""
    sequences = keras.Input(shape, name="sequences", dtype="float32")
    x = sequences
    for i in range(num_layers):
        x = CELLS[cell](units, name=f"recurrent.{i}")(x)
    return keras.Model(sequences, layers.Dense(num_classes, name="logits")(x[:, -1]), name=cell)


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> keras.Model:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (sequences,), (logits,) = signature["inputs"], signature["outputs"]
    return classifier(shape=tuple(sequences["shape"]), num_classes=logits["shape"][0], **architecture)
