"""`mlp` in PyTorch; mlp_tf.py is its pair, function by function.

Imports nothing of ours: it is packed into the TorchServe archive as the eager model's source.
Input `features` (batch, n) float32, output `logits` (batch, classes) float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Mlp(nn.Module):
    """dense-relu as often as `hidden` says, dense."""

    def __init__(self, *, num_features: int, num_classes: int, hidden: list[int]) -> None:
        super().__init__()
        sizes = [num_features, *hidden]
        self.hidden = nn.ModuleList([nn.Linear(sizes[i], sizes[i + 1]) for i in range(len(hidden))])
        self.logits = nn.Linear(sizes[-1], num_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, n) float32 to logits (batch, classes) float32."""
        x = features
        for layer in self.hidden:
            x = torch.relu(layer(x))
        logits: torch.Tensor = self.logits(x)
        return logits


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> nn.Module:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (features,), (logits,) = signature["inputs"], signature["outputs"]
    return Mlp(num_features=features["shape"][0], num_classes=logits["shape"][0], **architecture)
