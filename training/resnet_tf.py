"""`resnet50` and `resnet8` in Keras on TensorFlow; resnet_torch.py is its pair, function by function.

resnet50 is the bottleneck form, v1.5: the stride is in the 3x3 convolution, not in the first 1x1
(https://catalog.ngc.nvidia.com/orgs/nvidia/resources/resnet_50_v1_5_for_pytorch). resnet8 is the form for small
images with n = 1 (He et al. 2015, arXiv:1512.03385, section 4.2). The last normalization of a block is called
`last_norm`, and its scale is drawn as 0 (training.weights).

Input `images` (batch, height, width, channels) float32, output `logits` (batch, classes) float32.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from training.layers_tf import batch_norm, conv


def shortcut(x: Any, channels: int, stride: int, norm: dict[str, float], name: str) -> Any:
    """What is added to a block's output: its input, through a 1x1 convolution where the shape changes."""
    if stride == 1 and x.shape[-1] == channels:
        return x
    return batch_norm(**norm, name=f"{name}.bn")(conv(x, channels, 1, stride=stride, name=f"{name}.conv"))


def basic(x: Any, width: int, stride: int, norm: dict[str, float], name: str) -> Any:
    """Two 3x3 convolutions."""
    y = ops.relu(batch_norm(**norm, name=f"{name}.bn1")(conv(x, width, 3, stride=stride, name=f"{name}.conv1")))
    y = batch_norm(**norm, name=f"{name}.last_norm")(conv(y, width, 3, name=f"{name}.conv2"))
    return ops.relu(y + shortcut(x, width, stride, norm, f"{name}.shortcut"))


def bottleneck(x: Any, width: int, stride: int, norm: dict[str, float], name: str) -> Any:
    """1x1, 3x3 with the stride, 1x1 to four times the width."""
    y = ops.relu(batch_norm(**norm, name=f"{name}.bn1")(conv(x, width, 1, name=f"{name}.conv1")))
    y = ops.relu(batch_norm(**norm, name=f"{name}.bn2")(conv(y, width, 3, stride=stride, name=f"{name}.conv2")))
    y = batch_norm(**norm, name=f"{name}.last_norm")(conv(y, 4 * width, 1, name=f"{name}.conv3"))
    return ops.relu(y + shortcut(x, 4 * width, stride, norm, f"{name}.shortcut"))


BLOCKS = {"basic": basic, "bottleneck": bottleneck}


def resnet(
    *,
    image_shape: tuple[int, ...],
    num_classes: int,
    block: str,
    stem: str,
    widths: list[int],
    blocks: list[int],
    bn_momentum: float,
    bn_eps: float,
) -> keras.Model:
    """A stem, stages of blocks, the mean over the image, dense."""
    norm = {"eps": bn_eps, "momentum": bn_momentum}
    large = stem == "large"
    images = keras.Input(image_shape, name="images", dtype="float32")
    x = conv(images, widths[0], 7 if large else 3, stride=2 if large else 1, name="stem")
    x = ops.relu(batch_norm(**norm, name="stem_bn")(x))
    if large:
        # Zeros are as low as a padding can be after relu, so torch's padding with -inf is the same.
        x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(layers.ZeroPadding2D(1, name="stem_pool_pad")(x))
    for number, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        strides = [1 if number == 0 else 2, *[1] * (count - 1)]
        for i, stride in enumerate(strides):
            x = BLOCKS[block](x, width, stride, norm, f"stages.{number}.{i}")
    return keras.Model(images, layers.Dense(num_classes, name="logits")(ops.mean(x, axis=(1, 2))), name="resnet")


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> keras.Model:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (images,), (logits,) = signature["inputs"], signature["outputs"]
    return resnet(image_shape=tuple(images["shape"]), num_classes=logits["shape"][0], **architecture)
