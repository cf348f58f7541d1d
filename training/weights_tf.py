"""Weights of a Keras model to and from the neutral form; weights_torch.py is its pair, function by function.

A weight is named `<layer>/<variable>`. The neutral form is Keras' own: only the names are looked up.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from faceoff.signature import Arrays
from training.layers_tf import flat_layers


def weights(model: keras.Model) -> Arrays:
    """The model's weights in the neutral form."""
    return {name: np.array(variable, np.float32) for name, variable in _variables(model)}


def load_weights(model: keras.Model, values: Arrays) -> None:
    """Load weights in the neutral form."""
    for name, variable in _variables(model):
        variable.assign(values[name])


def _variables(model: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """(neutral name, variable) of everything that a layer of `model` keeps."""
    for layer in flat_layers(model):
        for variable in layer.weights:  # without the states of random generators, which `variables` has too
            yield f"{layer.name}/{variable.name}", variable
