"""Layers that several torch models share; layers_tf.py is its pair, name by name.

Imports nothing of ours: it is packed into the TorchServe archive beside the model's file. Arguments mean what
Keras means by them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization whose running variance is the biased one, as Keras keeps it.

    nn.BatchNorm2d normalizes by the biased variance of the batch but accumulates the unbiased one, larger
    by n / (n - 1); that factor is taken out of the part that each batch adds. `momentum` is Keras': the
    share of the old value that is kept.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    momentum: float

    def __init__(self, channels: int, *, eps: float, momentum: float) -> None:
        super().__init__(channels, eps=eps, momentum=1.0 - momentum)  # torch counts the new part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to the same."""
        if not self.training:
            return super().forward(x)
        kept = self.running_var * (1.0 - self.momentum)
        # A clone, because autograd keeps the tensor that it is given and refuses a later change to it.
        updated = self.running_var.clone()
        y = functional.batch_norm(x, self.running_mean, updated, self.weight, self.bias, True, self.momentum, self.eps)
        n = x.numel() // x.shape[1]
        self.running_var.copy_(kept + (updated - kept) * ((n - 1) / n))
        return y


class Conv(nn.Conv2d):
    """A convolution without bias, zero-padded alike on both sides, so that stride 2 takes the same pixels in both frameworks."""

    def __init__(self, depth: int, channels: int, size: int, *, stride: int = 1) -> None:
        super().__init__(depth, channels, size, stride=stride, padding=size // 2, bias=False)


class Rnn(nn.RNN):
    """Cells of tanh. Of torch's two biases the second is zero and stays so: Keras has one, and two would learn twice as fast."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__(features, units, batch_first=True)
        _freeze_second_bias(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """(batch, steps, features) to every step's output (batch, steps, units); the state starts at zero."""
        outputs: torch.Tensor = super().forward(x)[0]
        return outputs


class Lstm(nn.LSTM):
    """LSTM cells (Hochreiter and Schmidhuber 1997) with a forget gate. The second bias as in `Rnn`."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__(features, units, batch_first=True)
        _freeze_second_bias(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """(batch, steps, features) to every step's output (batch, steps, units); the state starts at zero."""
        outputs: torch.Tensor = super().forward(x)[0]
        return outputs


class Gru(nn.GRU):
    """GRU cells (Cho et al. 2014), the reset gate applied after the product; both biases, which Keras has too."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__(features, units, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """(batch, steps, features) to every step's output (batch, steps, units); the state starts at zero."""
        outputs: torch.Tensor = super().forward(x)[0]
        return outputs


class Gelu(nn.Module):
    """Exact x * Phi(x) (arXiv:1606.08415); the approximation by tanh differs by up to 5e-4."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape to the same."""
        return functional.gelu(x)


class Positions(nn.Embedding):
    """Adds a learned vector for each position (BERT, arXiv:1810.04805)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) to the same."""
        return x + self.weight[: x.shape[1]]


class Attention(nn.Module):
    """Multi-head self-attention (arXiv:1706.03762). `bias` is added to the scores: 0, or -1e9 where nobody may look."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) and (batch, 1, 1, length) to (batch, length, width)."""
        shape = (*x.shape[:2], self.num_heads, -1)
        q, k, v = (layer(x).reshape(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        result: torch.Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return result


def _freeze_second_bias(layer: nn.RNNBase) -> None:
    bias = layer.bias_hh_l0
    assert isinstance(bias, nn.Parameter)
    bias.requires_grad_(False).zero_()
