"""`seq2seq` in PyTorch; seq2seq_tf.py is its pair, function by function.

The shape of GNMT (Wu et al. 2016, arXiv:1609.08144) as MLPerf trains it: an encoder whose first layer reads both ways,
residual LSTM layers, additive attention (Bahdanau et al. 2014, arXiv:1409.0473) asked by the decoder's first layer and
its answer given to all the later ones. The decoder is given what it has said so far.

Imports nothing of ours but layers_torch: both are packed into the TorchServe archive as the eager model's source.
Inputs `source` and `target` (batch, length) int32, 0 is padding; output `logits` (batch, length, vocabulary) float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from training.layers_torch import Lstm


class Encoder(nn.Module):
    """Words, one layer in both directions, then residual layers."""

    def __init__(self, vocabulary: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.ahead = Lstm(width, width // 2)
        self.back = Lstm(width, width // 2)
        self.lstm = nn.ModuleList([Lstm(width, width) for _ in range(num_layers - 1)])

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        """int32 (batch, length) to (batch, length, width)."""
        x: torch.Tensor = self.words(source)
        x = torch.cat([self.ahead(x), self.back(x.flip(1)).flip(1)], dim=-1)
        for layer in self.lstm:
            x = x + layer(x)
        return x


class AdditiveAttention(nn.Module):
    """Mean of the memory by the softmax of v · tanh(W q + U k); padding gets -1e9."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, query: torch.Tensor, memory: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(batch, t, width), (batch, s, width) and (batch, 1, s) to (batch, t, width)."""
        mixed = torch.tanh(self.query(query)[:, :, None] + self.key(memory)[:, None])
        scores = self.score(mixed)[..., 0] + bias
        return torch.softmax(scores, dim=-1) @ memory


class Seq2seq(nn.Module):
    """Encoder, attention, decoder, dense over the vocabulary."""

    def __init__(self, *, vocabulary: int, width: int, num_layers: int) -> None:
        super().__init__()
        self.encoder = Encoder(vocabulary, width, num_layers)
        self.words = nn.Embedding(vocabulary, width)
        self.first = Lstm(width, width)
        self.attention = AdditiveAttention(width)
        self.lstm = nn.ModuleList([Lstm(2 * width, width) for _ in range(num_layers - 1)])
        self.logits = nn.Linear(width, vocabulary)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Two int32 (batch, length) to logits (batch, length, vocabulary) float32."""
        memory = self.encoder(source)
        bias = (source == 0).to(memory.dtype)[:, None] * -1e9
        x = self.first(self.words(target))
        context = self.attention(x, memory, bias)
        for layer in self.lstm:
            x = x + layer(torch.cat([x, context], dim=-1))
        logits: torch.Tensor = self.logits(x)
        return logits


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> nn.Module:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    return Seq2seq(**architecture)
