"""`dcgan` in Keras on TensorFlow; dcgan_torch.py is its pair, function by function.

Radford et al. 2015, arXiv:1511.06434: strided convolutions, batch normalization in both networks but not at the
image, leaky relu in the discriminator. What is served is the generator. Every step trains the discriminator, then the
generator, with the loss that does not saturate (Goodfellow et al. 2014, arXiv:1406.2661).

A layer before a normalization has no bias: the
normalization takes it out again, its gradient is rounding, and Adam would make whole steps of that.

Input `noise` (batch, latent) float32, output `images` (batch, height, width, channels) float32 in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from training.layers_tf import batch_norm

Loss = Callable[[Sequence[tf.Tensor], tf.Tensor], tf.Tensor]


def generator(image_shape: tuple[int, ...], latent: int, width: int, norm: dict[str, float]) -> keras.Model:
    """Dense to a quarter of the image, then twice to the double by transposed convolutions."""
    height, breadth, depth = image_shape
    start = (height // 4, breadth // 4, 2 * width)
    noise = keras.Input((latent,), name="noise", dtype="float32")
    # At size 4 and stride 2 Keras' "same" takes one pixel from every side, as torch's padding=1 does.
    up = {"strides": 2, "padding": "same"}
    x = ops.reshape(layers.Dense(start[0] * start[1] * start[2], use_bias=False, name="generator.dense")(noise), (-1, *start))
    x = ops.relu(batch_norm(**norm, name="generator.bn1")(x))
    x = ops.relu(
        batch_norm(**norm, name="generator.bn2")(layers.Conv2DTranspose(width, 4, **up, use_bias=False, name="generator.up1")(x))
    )
    x = ops.tanh(layers.Conv2DTranspose(depth, 4, **up, name="generator.up2")(x))
    return keras.Model(noise, x, name="generator")


def leaky_relu(x: Any) -> Any:
    """The slope of ops.leaky_relu is a float32 in float64 too."""
    return ops.maximum(x, 0.2 * x)


def discriminator(image_shape: tuple[int, ...], width: int, norm: dict[str, float]) -> keras.Model:
    """Twice to the half by strided convolutions, dense to one logit: real or made."""
    images = keras.Input(image_shape, name="images")
    # At size 4 and stride 2 on an even input "same" is symmetric: one pixel on every side.
    down = {"strides": 2, "padding": "same"}
    x = leaky_relu(layers.Conv2D(width, 4, **down, name="discriminator.down1")(images))
    x = layers.Conv2D(2 * width, 4, **down, use_bias=False, name="discriminator.down2")(x)
    x = leaky_relu(batch_norm(**norm, name="discriminator.bn")(x))
    x = layers.Dense(1, name="discriminator.dense")(layers.Flatten(name="discriminator.flatten")(x))
    return keras.Model(images, x, name="discriminator")


class Dcgan(keras.Model):
    """Both networks; called, it is the generator."""

    def __init__(self, *, image_shape: tuple[int, ...], latent: int, width: int, bn_momentum: float, bn_eps: float) -> None:
        super().__init__(name="dcgan")
        norm = {"eps": bn_eps, "momentum": bn_momentum}
        self.generator = generator(image_shape, latent, width, norm)
        self.discriminator = discriminator(image_shape, width, norm)

    def call(self, noise: tf.Tensor, training: bool = False) -> tf.Tensor:
        """(batch, latent) float32 to images (batch, height, width, channels) float32."""
        return self.generator(noise, training=training)


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> keras.Model:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (images,) = signature["outputs"]
    model = Dcgan(image_shape=tuple(images["shape"]), **architecture)
    model.built = True  # its parts are; Keras cannot know
    return model


def phases(model: Dcgan) -> list[tuple[str, list[keras.Variable], Loss]]:
    """(name, what is trained, loss(inputs, real images)) of the two halves of a step."""

    def discriminator_loss(inputs: Sequence[tf.Tensor], real: tf.Tensor) -> tf.Tensor:
        made = tf.stop_gradient(model.generator(inputs[0], training=True))
        judged_real, judged_made = model.discriminator(real, training=True), model.discriminator(made, training=True)
        return tf.reduce_mean(tf.nn.softplus(-judged_real)) + tf.reduce_mean(tf.nn.softplus(judged_made))

    def generator_loss(inputs: Sequence[tf.Tensor], real: tf.Tensor) -> tf.Tensor:
        made = model.generator(inputs[0], training=True)
        return tf.reduce_mean(tf.nn.softplus(-model.discriminator(made, training=True)))

    return [
        ("discriminator", model.discriminator.trainable_variables, discriminator_loss),
        ("generator", model.generator.trainable_variables, generator_loss),
    ]
