"""Names, dtypes and layouts of a model's inputs and outputs: said here and nowhere else.

Outside a model file there is one layout: batch first, NHWC for images, C order, little-endian. A shape
here leaves the batch dimension out; it is dynamic in every exported format. So are the axes that `dynamic` names,
the length of a sequence: `shape` has the length that data sets have and raw bytes mean.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from faceoff.errors import UsageError

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One named tensor. `shape` is that of one row, without the batch dimension; `dynamic` are axes of a row."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    dynamic: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        np.dtype(self.dtype)  # TypeError for a dtype that does not exist
        if any(size < 1 for size in self.shape):
            raise ValueError(f"shape {self.shape} of {self.name!r}: expected sizes of at least 1")
        if any(axis not in range(len(self.shape)) for axis in self.dynamic):
            raise ValueError(f"dynamic axes {self.dynamic} of {self.name!r}: expected axes of a row of shape {self.shape}")

    @property
    def wire_dtype(self) -> np.dtype[Any]:
        """The dtype on the wire: little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def dynamic_shape(self) -> tuple[int | None, ...]:
        """The shape of one row with None where a size may differ."""
        return tuple(None if axis in self.dynamic else size for axis, size in enumerate(self.shape))

    def check(self, array: np.ndarray) -> None:
        """Raise UsageError unless `array` is a batch of rows of this tensor."""
        sizes = zip(array.shape[1:], self.dynamic_shape, strict=False)
        if array.ndim != len(self.shape) + 1 or any(found != size and (size or found < 1) for found, size in sizes):
            want = ", ".join(["batch", *("any" if size is None else str(size) for size in self.dynamic_shape)])
            raise UsageError(f"{self.name!r} has shape {tuple(array.shape)}: expected ({want})")
        if array.dtype != np.dtype(self.dtype):
            raise UsageError(f"{self.name!r} has dtype {array.dtype}: expected {self.dtype}")


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The inputs and outputs of a servable, in order, and the name TF Serving knows them by."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    name: str = "serving_default"

    def check_inputs(self, arrays: Arrays) -> int:
        """Check a set of named inputs; returns the number of rows. Raises UsageError."""
        expected = [spec.name for spec in self.inputs]
        if sorted(arrays) != sorted(expected):
            raise UsageError(f"inputs {sorted(arrays)}: expected {sorted(expected)}")
        for spec in self.inputs:
            spec.check(arrays[spec.name])
        rows = {len(array) for array in arrays.values()}
        if len(rows) != 1:
            raise UsageError(f"inputs have different numbers of rows: {sorted(rows)}")
        return rows.pop()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Signature:
        """The inverse of `to_dict`, also for what JSON made of it."""

        def specs(items: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(**{**i, "shape": tuple(i["shape"]), "dynamic": tuple(i.get("dynamic", ()))}) for i in items)

        return cls(inputs=specs(data["inputs"]), outputs=specs(data["outputs"]), name=data["name"])


def image_classifier(image_shape: tuple[int, ...], num_classes: int) -> Signature:
    """float32 `images` (height, width, channels) to float32 `logits` (num_classes,)."""
    return Signature(inputs=(_floats("images", image_shape),), outputs=(_floats("logits", (num_classes,)),))


def vector_classifier(shape: tuple[int, ...], num_classes: int) -> Signature:
    """float32 `features` (num_features,) to float32 `logits` (num_classes,)."""
    return Signature(inputs=(_floats("features", shape),), outputs=(_floats("logits", (num_classes,)),))


def sequence_classifier(shape: tuple[int, ...], num_classes: int) -> Signature:
    """float32 `sequences` (steps, features; any number of steps) to float32 `logits` (num_classes,)."""
    return Signature(inputs=(_floats("sequences", shape, dynamic=(0,)),), outputs=(_floats("logits", (num_classes,)),))


def token_classifier(shape: tuple[int, ...], num_classes: int) -> Signature:
    """int32 `ids` (length,) and `mask` (length,; 1 is a token, 0 is padding) to float32 `logits` (num_classes,)."""
    return Signature(inputs=(_ints("ids", shape), _ints("mask", shape)), outputs=(_floats("logits", (num_classes,)),))


def seq2seq(shape: tuple[int, ...], vocabulary: int) -> Signature:
    """int32 `source` and `target` (length,; 0 is padding) to float32 `logits` (length, vocabulary).

    `target` is what the decoder has said so far, shifted right by one: position i of the logits is the answer to it.
    """
    logits = _floats("logits", (*shape, vocabulary), dynamic=(0,))
    return Signature(inputs=(_ints("source", shape), _ints("target", shape)), outputs=(logits,))


def image_generator(noise_shape: tuple[int, ...], image_shape: tuple[int, ...]) -> Signature:
    """float32 `noise` (num_latent,) to float32 `images` (height, width, channels) in [-1, 1]."""
    return Signature(inputs=(_floats("noise", noise_shape),), outputs=(_floats("images", image_shape),))


def identity(shape: tuple[int, ...]) -> Signature:
    """float32 `values` to float32 `same`, of one shape."""
    return Signature(inputs=(_floats("values", shape),), outputs=(_floats("same", shape),))


def _floats(name: str, shape: tuple[int, ...], dynamic: tuple[int, ...] = ()) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape, dynamic=dynamic)


def _ints(name: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(name=name, dtype="int32", shape=shape, dynamic=(0,))  # tokens, one after the other
