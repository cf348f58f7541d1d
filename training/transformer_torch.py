"""`transformer` and `bert-base` in PyTorch; transformer_tf.py is its pair, function by function.

An encoder as in BERT (Devlin et al. 2018, arXiv:1810.04805): normalization after each sum, exact GELU, a tanh layer
on the first token. Of BERT's inputs the segment ids are left out: one sentence has one segment.

Imports nothing of ours but layers_torch: both are packed into the TorchServe archive as the eager model's source.
Inputs `ids` and `mask` (batch, length) int32, output `logits` (batch, classes) float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from training.layers_torch import Attention, Gelu, Positions


class Block(nn.Module):
    """Attention, sum, normalization; two dense layers, sum, normalization."""

    def __init__(self, width: int, hidden: int, num_heads: int, norm_eps: float) -> None:
        super().__init__()
        self.attention = Attention(width, num_heads)
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.dense1 = nn.Linear(width, hidden)
        self.gelu = Gelu()
        self.dense2 = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) and (batch, 1, 1, length) to (batch, length, width)."""
        x = self.norm1(x + self.attention(x, bias))
        y: torch.Tensor = self.norm2(x + self.dense2(self.gelu(self.dense1(x))))
        return y


class Transformer(nn.Module):
    """Embeddings of words and positions, blocks, a tanh layer on the first token, dense."""

    def __init__(
        self,
        *,
        num_classes: int,
        vocabulary: int,
        max_length: int,
        width: int,
        hidden: int,
        num_heads: int,
        num_layers: int,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = Positions(max_length, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.blocks = nn.ModuleList([Block(width, hidden, num_heads, norm_eps) for _ in range(num_layers)])
        self.pooler = nn.Linear(width, width)
        self.logits = nn.Linear(width, num_classes)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Two int32 (batch, length) to logits (batch, classes) float32; masked tokens are seen by nobody."""
        x = self.norm(self.positions(self.words(ids)))
        bias = (1.0 - mask.to(x.dtype))[:, None, None, :] * -1e9  # finite: a row of padding only stays a number
        for block in self.blocks:
            x = block(x, bias)
        logits: torch.Tensor = self.logits(torch.tanh(self.pooler(x[:, 0])))
        return logits


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> nn.Module:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (logits,) = signature["outputs"]
    return Transformer(num_classes=logits["shape"][0], **architecture)
