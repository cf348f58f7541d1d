"""Pairs that a careless hand could have written: one side of a model with one detail left as the framework has it.

`python -m tests.fakes.broken_pairs <mistake> --plan DIR` dumps the layers of the broken side, as compare_layers_* does; with a
mistake that only training shows, it trains it, as train_* does.
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


def bn_momentum():
    """Torch with Keras' momentum, which counts the other part. No loss in training mode reads what becomes of it."""
    from training import layers_torch, train_torch

    right = layers_torch.BatchNorm.__init__
    layers_torch.BatchNorm.__init__ = lambda self, channels, *, eps, momentum: right(
        self, channels, eps=eps, momentum=1 - momentum
    )
    return train_torch.main


def bn_variance():
    """Torch with its own running variance, the unbiased one."""
    from torch import nn

    from training import layers_torch, train_torch

    layers_torch.BatchNorm.forward = nn.BatchNorm2d.forward
    return train_torch.main


MISTAKES = {function.__name__: function for function in (bn_eps, lstm_bias, gelu_variant, padding, bn_momentum, bn_variance)}


if __name__ == "__main__":
    raise SystemExit(MISTAKES[sys.argv[1]]()(sys.argv[2:]))
