"""`seq2seq` in Keras on TensorFlow; seq2seq_torch.py is its pair, function by function.

The shape of GNMT (Wu et al. 2016, arXiv:1609.08144) as MLPerf trains it: an encoder whose first layer reads both ways,
residual LSTM layers, additive attention (Bahdanau et al. 2014, arXiv:1409.0473) asked by the decoder's first layer and
its answer given to all the later ones. The decoder is given what it has said so far.

Inputs `source` and `target` (batch, length) int32, 0 is padding; output `logits` (batch, length, vocabulary) float32.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from training.layers_tf import lstm


def encoder(source: Any, *, vocabulary: int, width: int, num_layers: int) -> Any:
    """Words, one layer in both directions, then residual layers."""
    x = layers.Embedding(vocabulary, width, name="encoder.words")(source)
    ahead = lstm(width // 2, name="encoder.ahead")(x)
    back = lstm(width // 2, name="encoder.back")(ops.flip(x, axis=1))
    x = ops.concatenate([ahead, ops.flip(back, axis=1)], axis=-1)
    for i in range(num_layers - 1):
        x = x + lstm(width, name=f"encoder.lstm.{i}")(x)
    return x


def additive_attention(query: Any, memory: Any, bias: Any, *, width: int, name: str) -> Any:
    """Mean of the memory by the softmax of v · tanh(W q + U k); padding gets -1e9."""
    asked = layers.Dense(width, use_bias=False, name=f"{name}.query")(query)
    known = layers.Dense(width, use_bias=False, name=f"{name}.key")(memory)
    mixed = ops.tanh(asked[:, :, None] + known[:, None])
    scores = layers.Dense(1, use_bias=False, name=f"{name}.score")(mixed)[..., 0] + bias
    return ops.matmul(ops.softmax(scores, axis=-1), memory)


def seq2seq(*, length: int, vocabulary: int, width: int, num_layers: int) -> keras.Model:
    """Encoder, attention, decoder, dense over the vocabulary."""
    source = keras.Input((length,), name="source", dtype="int32")
    target = keras.Input((length,), name="target", dtype="int32")
    memory = encoder(source, vocabulary=vocabulary, width=width, num_layers=num_layers)
    bias = ops.cast(ops.equal(source, 0), memory.dtype)[:, None] * -1e9
    x = lstm(width, name="first")(layers.Embedding(vocabulary, width, name="words")(target))
    context = additive_attention(x, memory, bias, width=width, name="attention")
    for i in range(num_layers - 1):
        x = x + lstm(width, name=f"lstm.{i}")(ops.concatenate([x, context], axis=-1))
    return keras.Model([source, target], layers.Dense(vocabulary, name="logits")(x), name="seq2seq")


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> keras.Model:
    """An untrained model; `architecture` is the preset's, `signature` faceoff.signature's as plain data."""
    return seq2seq(length=signature["inputs"][0]["shape"][0], **architecture)
