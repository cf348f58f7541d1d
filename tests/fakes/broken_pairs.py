"""Pairs that a careless hand could have written: one side of a model with one detail left as the framework has it.

`python -m tests.fakes.broken_pairs <mistake> --plan DIR` dumps the layers of the broken side, as compare_layers_* does.
"""

import sys


def bn_eps():
    """Keras with torch's epsilon."""
    from training import compare_layers_tf, layers_tf

    right = layers_tf.batch_norm
    layers_tf.batch_norm = lambda **settings: right(**{**settings, "eps": 1e-5})
    return compare_layers_tf.main


def lstm_bias():
    """Torch with both of its biases, as they are drawn."""
    from torch import nn

    from training import compare_layers_torch, layers_torch, weights_torch

    layers_torch._freeze_second_bias = lambda layer: None
    right = weights_torch._attributes

    def one_bias(module):
        found = right(module)
        return {**found, "bias": ["bias_ih_l0"]} if isinstance(module, nn.LSTM) else found

    weights_torch._attributes = one_bias
    weights_torch.from_neutral = lambda module, kind, value, right=weights_torch.from_neutral: right(module, kind, value)[:1]
    return compare_layers_torch.main


def gelu_variant():
    """Keras with the approximation by tanh."""
    import keras

    from training import compare_layers_tf, layers_tf

    layers_tf.gelu = lambda *, name: keras.layers.Activation(lambda x: keras.ops.gelu(x, approximate=True), name=name)
    return compare_layers_tf.main


def padding():
    """Keras with its own "same" at stride 2."""
    import keras

    from training import compare_layers_tf, layers_tf

    def conv(x, channels, size, *, stride=1, name):
        layer = keras.layers.Conv2D(channels, size, strides=stride, padding="same", use_bias=False, name=name)
        return layer(x)

    layers_tf.conv = conv
    return compare_layers_tf.main


if __name__ == "__main__":
    which = {"bn_eps": bn_eps, "lstm_bias": lstm_bias, "gelu_variant": gelu_variant, "padding": padding}[sys.argv[1]]
    raise SystemExit(which()(sys.argv[2:]))
