"""`mlp` in Keras on TensorFlow; mlp_torch.py is its pair, function by function.

Input `features` (batch, n) float32, output `logits` (batch, classes) float32.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def mlp(*, num_features: int, num_classes: int, hidden: list[int]) -> keras.Model:
    """dense-relu as often as `hidden` says, dense."""
    features = keras.Input((num_features,), name="features", dtype="float32")
    x = features
    for i, size in enumerate(hidden):
        x = keras.ops.relu(layers.Dense(size, name=f"hidden.{i}")(x))
    return keras.Model(features, layers.Dense(num_classes, name="logits")(x), name="mlp")


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> keras.Model:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (features,), (logits,) = signature["inputs"], signature["outputs"]
    return mlp(num_features=features["shape"][0], num_classes=logits["shape"][0], **architecture)
