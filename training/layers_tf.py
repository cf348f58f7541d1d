"""Layers that several Keras models share; layers_torch.py is its pair, name by name.

A layer of several parts names them `<name>.<part>`, as torch does.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

SQRT_HALF = 0.7071067811865476


def batch_norm(*, eps: float, momentum: float, name: str) -> layers.Layer:
    """Batch normalization over the last axis; its running variance is the biased one."""
    return layers.BatchNormalization(epsilon=eps, momentum=momentum, name=name)


def conv(x: Any, channels: int, size: int, *, stride: int = 1, name: str) -> Any:
    """A convolution without bias, zero-padded alike on both sides: Keras' own "same" is lopsided at stride 2."""
    if stride > 1 and size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    padding = "same" if stride == 1 else "valid"
    return layers.Conv2D(channels, size, strides=stride, padding=padding, use_bias=False, name=name)(x)


def rnn(units: int, *, name: str) -> layers.Layer:
    """Cells of tanh: (batch, steps, features) to every step's output (batch, steps, units)."""
    return layers.SimpleRNN(units, return_sequences=True, name=name)


def lstm(units: int, *, name: str) -> layers.Layer:
    """LSTM cells (Hochreiter and Schmidhuber 1997) with a forget gate."""
    return layers.LSTM(units, return_sequences=True, name=name)


def gru(units: int, *, name: str) -> layers.Layer:
    """GRU cells (Cho et al. 2014), the reset gate applied after the product; both biases, which torch has too."""
    return layers.GRU(units, return_sequences=True, reset_after=True, name=name)


def gelu(*, name: str) -> layers.Layer:
    """Exact x * Phi(x) (arXiv:1606.08415), through erf: keras' own becomes Erfc in ONNX, which ONNX Runtime rejects."""
    return layers.Activation(lambda x: 0.5 * x * (1.0 + ops.erf(x * SQRT_HALF)), name=name)


class Positions(layers.Layer):
    """Adds a learned vector for each position (BERT, arXiv:1810.04805)."""

    def __init__(self, count: int, width: int, *, name: str) -> None:
        super().__init__(name=name)
        self.embeddings = self.add_weight(shape=(count, width), initializer="uniform", name="embeddings")

    def call(self, x: Any) -> Any:
        """(batch, length, width) to the same."""
        return x + self.embeddings[: ops.shape(x)[1]]  # the length, known or not when the graph is made


def attention(x: Any, bias: Any, *, num_heads: int, name: str) -> Any:
    """Multi-head self-attention (arXiv:1706.03762). `bias` is added to the scores: 0, or -1e9 where nobody may look.

    (batch, length, width) and (batch, 1, 1, length) to (batch, length, width).
    """
    width = x.shape[-1]

    def heads(part: str) -> Any:
        projected = layers.Dense(width, name=f"{name}.{part}")(x)
        return layers.Reshape((-1, num_heads, width // num_heads), name=f"{name}.{part}_heads")(projected)

    mixed = ops.dot_product_attention(heads("query"), heads("key"), heads("value"), bias=bias, flash_attention=False)
    return layers.Dense(width, name=f"{name}.output")(layers.Reshape((-1, width), name=f"{name}.joined")(mixed))


def flat_layers(model: keras.Model) -> list[layers.Layer]:
    """The layers of `model` and of the models inside it, none of which has layers of its own."""
    found: list[layers.Layer] = []
    for layer in model.layers:
        found += flat_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found
