"""`resnet50` and `resnet8` in PyTorch; resnet_tf.py is its pair, function by function.

resnet50 is the bottleneck form, v1.5: the stride is in the 3x3 convolution, not in the first 1x1
(https://catalog.ngc.nvidia.com/orgs/nvidia/resources/resnet_50_v1_5_for_pytorch). resnet8 is the form for small
images with n = 1 (He et al. 2015, arXiv:1512.03385, section 4.2). The last normalization of a block is called
`last_norm`, and its scale is drawn as 0 (training.weights).

Imports nothing of ours but layers_torch: both are packed into the TorchServe archive as the eager model's source.
Input `images` (batch, height, width, channels) float32, output `logits` (batch, classes) float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from training.layers_torch import BatchNorm, Conv


class Shortcut(nn.Module):
    """What is added to a block's output: its input, through a 1x1 convolution where the shape changes."""

    def __init__(self, depth: int, channels: int, stride: int, norm: dict[str, float]) -> None:
        super().__init__()
        self.same = stride == 1 and depth == channels
        if not self.same:
            self.conv = Conv(depth, channels, 1, stride=stride)
            self.bn = BatchNorm(channels, **norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, depth, h, w) to (batch, channels, h / stride, w / stride)."""
        return x if self.same else self.bn(self.conv(x))


class Basic(nn.Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, depth: int, width: int, stride: int, norm: dict[str, float]) -> None:
        super().__init__()
        self.conv1 = Conv(depth, width, 3, stride=stride)
        self.bn1 = BatchNorm(width, **norm)
        self.conv2 = Conv(width, width, 3)
        self.last_norm = BatchNorm(width, **norm)
        self.shortcut = Shortcut(depth, width, stride, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, depth, h, w) to (batch, width, h / stride, w / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.last_norm(self.conv2(y))
        return torch.relu(y + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width."""

    expansion = 4

    def __init__(self, depth: int, width: int, stride: int, norm: dict[str, float]) -> None:
        super().__init__()
        self.conv1 = Conv(depth, width, 1)
        self.bn1 = BatchNorm(width, **norm)
        self.conv2 = Conv(width, width, 3, stride=stride)
        self.bn2 = BatchNorm(width, **norm)
        self.conv3 = Conv(width, 4 * width, 1)
        self.last_norm = BatchNorm(4 * width, **norm)
        self.shortcut = Shortcut(depth, 4 * width, stride, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, depth, h, w) to (batch, 4 width, h / stride, w / stride)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.last_norm(self.conv3(y))
        return torch.relu(y + self.shortcut(x))


BLOCKS: dict[str, type[Basic] | type[Bottleneck]] = {"basic": Basic, "bottleneck": Bottleneck}


class Resnet(nn.Module):
    """A stem, stages of blocks, the mean over the image, dense. NHWC outside, NCHW inside."""

    def __init__(
        self,
        *,
        depth: int,
        num_classes: int,
        block: str,
        stem: str,
        widths: list[int],
        blocks: list[int],
        bn_momentum: float,
        bn_eps: float,
    ) -> None:
        super().__init__()
        norm = {"eps": bn_eps, "momentum": bn_momentum}
        large = stem == "large"
        self.stem = Conv(depth, widths[0], 7 if large else 3, stride=2 if large else 1)
        self.stem_bn = BatchNorm(widths[0], **norm)
        self.stem_pool = nn.MaxPool2d(3, stride=2, padding=1) if large else None
        kind, depth, stages = BLOCKS[block], widths[0], []
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            strides = [1 if number == 0 else 2, *[1] * (count - 1)]
            stage = []
            for stride in strides:
                stage.append(kind(depth, width, stride, norm))
                depth = width * kind.expansion
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)
        self.logits = nn.Linear(depth, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, height, width, channels) float32 to logits (batch, classes) float32."""
        x = torch.relu(self.stem_bn(self.stem(images.permute(0, 3, 1, 2))))
        if self.stem_pool is not None:
            x = self.stem_pool(x)
        for stage in self.stages:
            x = stage(x)
        logits: torch.Tensor = self.logits(x.mean((2, 3)))
        return logits


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> nn.Module:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (images,), (logits,) = signature["inputs"], signature["outputs"]
    return Resnet(depth=images["shape"][2], num_classes=logits["shape"][0], **architecture)
