"""`transformer` and `bert-base` in Keras on TensorFlow; transformer_torch.py is its pair, function by function.

An encoder as in BERT (Devlin et al. 2018, arXiv:1810.04805): normalization after each sum, exact GELU, a tanh layer
on the first token. Of BERT's inputs the segment ids are left out: one sentence has one segment.

Inputs `ids` and `mask` (batch, length) int32, output `logits` (batch, classes) float32.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from training.layers_tf import Positions, attention, gelu


def block(x: Any, bias: Any, *, hidden: int, num_heads: int, norm_eps: float, name: str) -> Any:
    """Attention, sum, normalization; two dense layers, sum, normalization."""
    width = x.shape[-1]
    attended = attention(x, bias, num_heads=num_heads, name=f"{name}.attention")
    x = layers.LayerNormalization(epsilon=norm_eps, name=f"{name}.norm1")(x + attended)
    y = gelu(name=f"{name}.gelu")(layers.Dense(hidden, name=f"{name}.dense1")(x))
    y = layers.Dense(width, name=f"{name}.dense2")(y)
    return layers.LayerNormalization(epsilon=norm_eps, name=f"{name}.norm2")(x + y)


def transformer(
    *,
    length: int,
    num_classes: int,
    vocabulary: int,
    max_length: int,
    width: int,
    hidden: int,
    num_heads: int,
    num_layers: int,
    norm_eps: float,
) -> keras.Model:
    """Embeddings of words and positions, blocks, a tanh layer on the first token, dense."""
    ids = keras.Input((length,), name="ids", dtype="int32")
    mask = keras.Input((length,), name="mask", dtype="int32")
    x = Positions(max_length, width, name="positions")(layers.Embedding(vocabulary, width, name="words")(ids))
    x = layers.LayerNormalization(epsilon=norm_eps, name="norm")(x)
    # Finite: a row of padding only stays a number. Not by slicing with None, which LiteRT has only for known lengths.
    bias = ops.expand_dims(1.0 - ops.cast(mask, x.dtype), (1, 2)) * -1e9
    for i in range(num_layers):
        x = block(x, bias, hidden=hidden, num_heads=num_heads, norm_eps=norm_eps, name=f"blocks.{i}")
    pooled = ops.tanh(layers.Dense(width, name="pooler")(x[:, 0]))
    return keras.Model([ids, mask], layers.Dense(num_classes, name="logits")(pooled), name="transformer")


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> keras.Model:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    (logits,), length = signature["outputs"], signature["inputs"][0]["shape"][0]
    return transformer(length=length, num_classes=logits["shape"][0], **architecture)
