"""`dcgan` in PyTorch; dcgan_tf.py is its pair, function by function.

Radford et al. 2015, arXiv:1511.06434: strided convolutions, batch normalization in both networks but not at the
image, leaky relu in the discriminator. What is served is the generator. Every step trains the discriminator, then the
generator, with the loss that does not saturate (Goodfellow et al. 2014, arXiv:1406.2661).

A layer before a normalization has no bias: the
normalization takes it out again, its gradient is rounding, and Adam would make whole steps of that.

Imports nothing of ours but layers_torch: both are packed into the TorchServe archive as the eager model's source.
Input `noise` (batch, latent) float32, output `images` (batch, height, width, channels) float32 in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from training.layers_torch import BatchNorm

Loss = Callable[[Sequence[torch.Tensor], torch.Tensor], torch.Tensor]


class Generator(nn.Module):
    """Dense to a quarter of the image, then twice to the double by transposed convolutions. NHWC outside."""

    def __init__(self, image_shape: tuple[int, ...], latent: int, width: int, norm: dict[str, float]) -> None:
        super().__init__()
        height, breadth, depth = image_shape
        self.start = (height // 4, breadth // 4, 2 * width)
        self.dense = nn.Linear(latent, self.start[0] * self.start[1] * self.start[2], bias=False)
        self.bn1 = BatchNorm(2 * width, **norm)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False)
        self.bn2 = BatchNorm(width, **norm)
        self.up2 = nn.ConvTranspose2d(width, depth, 4, stride=2, padding=1)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """(batch, latent) to images (batch, height, width, channels) in [-1, 1]."""
        x = self.dense(noise).reshape(-1, *self.start).permute(0, 3, 1, 2)
        x = torch.relu(self.bn1(x))
        x = torch.relu(self.bn2(self.up1(x)))
        return torch.tanh(self.up2(x)).permute(0, 2, 3, 1)


def leaky_relu(x: torch.Tensor) -> torch.Tensor:
    """Any shape to the same, what is below zero at a fifth."""
    return functional.leaky_relu(x, 0.2)


class Discriminator(nn.Module):
    """Twice to the half by strided convolutions, dense to one logit: real or made. NHWC outside."""

    def __init__(self, image_shape: tuple[int, ...], width: int, norm: dict[str, float]) -> None:
        super().__init__()
        height, breadth, depth = image_shape
        self.down1 = nn.Conv2d(depth, width, 4, stride=2, padding=1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False)
        self.bn = BatchNorm(2 * width, **norm)
        self.dense = nn.Linear((height // 4) * (breadth // 4) * 2 * width, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, height, width, channels) to logits (batch, 1)."""
        x = leaky_relu(self.down1(images.permute(0, 3, 1, 2)))
        x = leaky_relu(self.bn(self.down2(x)))
        logits: torch.Tensor = self.dense(x.permute(0, 2, 3, 1).flatten(1))
        return logits


class Dcgan(nn.Module):
    """Both networks; called, it is the generator."""

    def __init__(self, *, image_shape: tuple[int, ...], latent: int, width: int, bn_momentum: float, bn_eps: float) -> None:
        super().__init__()
        norm = {"eps": bn_eps, "momentum": bn_momentum}
        self.generator = Generator(image_shape, latent, width, norm)
        self.discriminator = Discriminator(image_shape, width, norm)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """(batch, latent) float32 to images (batch, height, width, channels) float32."""
        images: torch.Tensor = self.generator(noise)
        return images


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> nn.Module:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (images,) = signature["outputs"]
    return Dcgan(image_shape=tuple(images["shape"]), **architecture)


def phases(model: Dcgan) -> list[tuple[str, list[nn.Parameter], Loss]]:
    """(name, what is trained, loss(inputs, real images)) of the two halves of a step."""

    def discriminator_loss(inputs: Sequence[torch.Tensor], real: torch.Tensor) -> torch.Tensor:
        made = model.generator(inputs[0]).detach()
        return functional.softplus(-model.discriminator(real)).mean() + functional.softplus(model.discriminator(made)).mean()

    def generator_loss(inputs: Sequence[torch.Tensor], real: torch.Tensor) -> torch.Tensor:
        return functional.softplus(-model.discriminator(model.generator(inputs[0]))).mean()

    return [
        ("discriminator", list(model.discriminator.parameters()), discriminator_loss),
        ("generator", list(model.generator.parameters()), generator_loss),
    ]
