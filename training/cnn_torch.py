"""`cnn` in PyTorch; cnn_tf.py is its pair, function by function.

Imports nothing of ours but layers_torch: both are packed into the TorchServe archive as the eager model's source.
Input `images` (batch, height, width, channels) float32, output `logits` (batch, classes) float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from training.layers_torch import BatchNorm


class Cnn(nn.Module):
    """conv-bn-relu twice, max-pool, dense-relu, dense. NHWC outside, NCHW inside."""

    def __init__(
        self,
        *,
        image_shape: tuple[int, ...],
        num_classes: int,
        channels: tuple[int, ...],
        kernel_size: int,
        hidden: int,
        bn_momentum: float,
        bn_eps: float,
    ) -> None:
        super().__init__()
        height, width, depth = image_shape
        norm = {"eps": bn_eps, "momentum": bn_momentum}
        self.conv1 = nn.Conv2d(depth, channels[0], kernel_size, padding=kernel_size // 2)
        self.bn1 = BatchNorm(channels[0], **norm)
        self.conv2 = nn.Conv2d(channels[0], channels[1], kernel_size, padding=kernel_size // 2)
        self.bn2 = BatchNorm(channels[1], **norm)
        self.pool = nn.MaxPool2d(2)
        self.dense1 = nn.Linear((height // 2) * (width // 2) * channels[1], hidden)
        self.dense2 = nn.Linear(hidden, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, height, width, channels) float32 to logits (batch, classes) float32."""
        x = images.permute(0, 3, 1, 2)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = self.pool(x).permute(0, 2, 3, 1).flatten(1)  # flattened in NHWC order, so dense kernels only transpose
        logits: torch.Tensor = self.dense2(torch.relu(self.dense1(x)))
        return logits


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> nn.Module:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (images,), (logits,) = signature["inputs"], signature["outputs"]
    return Cnn(image_shape=tuple(images["shape"]), num_classes=logits["shape"][0], **architecture)
