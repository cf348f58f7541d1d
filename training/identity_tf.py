"""`identity` in Keras: no model, so that what is left is the server; identity_torch.py is its pair.

Input `values` float32 of any shape, output `same`, equal to it.
"""

from __future__ import annotations

from typing import Any

import keras


def identity(*, shape: tuple[int, ...]) -> keras.Model:
    """Gives back what it got."""
    values = keras.Input(shape, name="values", dtype="float32")
    return keras.Model(values, keras.layers.Identity(name="same")(values), name="identity")


def build(architecture: dict[str, Any], signature: dict[str, Any]) -> keras.Model:
    """The model; only the shape of its input is needed."""
    return identity(shape=tuple(signature["inputs"][0]["shape"]))
