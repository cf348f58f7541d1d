"""`rnn`, `lstm` and `gru` in PyTorch; recurrent_tf.py is its pair, function by function.

Imports nothing of ours but layers_torch: both are packed into the TorchServe archive as the eager model's source.
Input `sequences` (batch, steps, features) float32, output `logits` (batch, classes) float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from training.layers_torch import Gru, Lstm, Rnn

CELLS = {"rnn": Rnn, "lstm": Lstm, "gru": Gru}


class Classifier(nn.Module):
    """Recurrent layers of `units` one on the other, dense on the last step's output."""

    def __init__(self, *, num_features: int, num_classes: int, cell: str, units: int, num_layers: int) -> None:
        super().__init__()
        sizes = [num_features, *[units] * num_layers]
        self.recurrent = nn.ModuleList([CELLS[cell](sizes[i], sizes[i + 1]) for i in range(num_layers)])
        self.logits = nn.Linear(units, num_classes)

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """(batch, steps, features) float32 to logits (batch, classes) float32."""
        x = sequences
        for layer in self.recurrent:
            x = layer(x)
        logits: torch.Tensor = self.logits(x[:, -1])
        return logits


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> nn.Module:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (sequences,), (logits,) = signature["inputs"], signature["outputs"]
    return Classifier(num_features=sequences["shape"][1], num_classes=logits["shape"][0], **architecture)
