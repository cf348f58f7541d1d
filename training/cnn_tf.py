"""`cnn` in Keras on TensorFlow; cnn_torch.py is its pair, function by function.

Input `images` (batch, height, width, channels) float32, output `logits` (batch, classes) float32.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from training.layers_tf import batch_norm


def cnn(
    *,
    image_shape: tuple[int, ...],
    num_classes: int,
    channels: tuple[int, ...],
    kernel_size: int,
    hidden: int,
    bn_momentum: float,
    bn_eps: float,
) -> keras.Model:
    """conv-bn-relu twice, max-pool, dense-relu, dense."""
    norm = {"eps": bn_eps, "momentum": bn_momentum}
    images = keras.Input(image_shape, name="images", dtype="float32")
    x = layers.Conv2D(channels[0], kernel_size, padding="same", name="conv1")(images)
    x = keras.ops.relu(batch_norm(**norm, name="bn1")(x))
    x = layers.Conv2D(channels[1], kernel_size, padding="same", name="conv2")(x)
    x = keras.ops.relu(batch_norm(**norm, name="bn2")(x))
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(2, name="pool")(x))
    x = keras.ops.relu(layers.Dense(hidden, name="dense1")(x))
    return keras.Model(images, layers.Dense(num_classes, name="dense2")(x), name="cnn")


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> keras.Model:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (images,), (logits,) = signature["inputs"], signature["outputs"]
    return cnn(image_shape=tuple(images["shape"]), num_classes=logits["shape"][0], **architecture)
