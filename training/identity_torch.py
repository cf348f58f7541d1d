"""`identity` in PyTorch: no model, so that what is left is the server; identity_tf.py is its pair.

Imports nothing of ours: it is packed into the TorchServe archive as the eager model's source.
Input `values` float32 of any shape, output `same`, equal to it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Identity(nn.Module):
    """Gives back what it got."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(batch, …) float32 to the same."""
        return values


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> nn.Module:
    """The model; neither argument changes it."""
    return Identity()
