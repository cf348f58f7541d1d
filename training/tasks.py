"""Tasks: how rows of a data set become the named inputs and the targets of a model, and the signature they have.

| task                | inputs                     | outputs                     | targets                             |
|---------------------|----------------------------|-----------------------------|-------------------------------------|
| image_classifier    | images (h, w, c)           | logits (classes,)           | int64 class                         |
| vector_classifier   | features (n,)              | logits (classes,)           | int64 class                         |
| sequence_classifier | sequences (steps, n)       | logits (classes,)           | int64 class                         |
| token_classifier    | ids (length,), mask        | logits (classes,)           | int64 class                         |
| seq2seq             | source (length,), target   | logits (length, vocabulary) | int64 (length,); 0 is not counted   |
| image_generator     | noise (latent,)            | images (h, w, c)            | float32 real images in [-1, 1]      |
| identity            | values                     | same                        | the values                          |

A generator is given one vector of noise for every real image, drawn once, so that both frameworks see the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faceoff import signature
from faceoff.errors import UsageError
from faceoff.presets import ModelPreset
from faceoff.signature import Arrays, Signature
from training.datasets import Dataset, Rows


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows of named inputs and their targets, same order."""

    inputs: Arrays
    targets: np.ndarray


def prepare(preset: ModelPreset, dataset: Dataset) -> tuple[Signature, Split, Split]:
    """The model's signature on this data set, its training rows and its test rows. Raises UsageError when they do not fit."""
    train, test = _arrange(preset, dataset.train, 3), _arrange(preset, dataset.test, 4)
    found = _signature(preset, dataset, train[0], train[1])
    splits = []
    for inputs, targets in (train, test):
        named = {spec.name: array for spec, array in zip(found.inputs, inputs, strict=True)}
        found.check_inputs(named)
        splits.append(Split(inputs=named, targets=targets))
    return found, splits[0], splits[1]


def _arrange(preset: ModelPreset, rows: Rows, stream: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The inputs in the signature's order, and the targets."""
    first = rows.inputs[0]
    if preset.task in ("token_classifier", "seq2seq"):
        if first.dtype != np.int32:
            raise UsageError(f"model {preset.name!r} reads tokens, the data set has {first.dtype}: set DATASET=synthetic")
        return rows.inputs, rows.targets
    if preset.task == "vector_classifier":
        return (first.reshape(len(first), -1),), rows.targets
    if preset.task == "sequence_classifier":  # an image is read line by line
        return (first.reshape(len(first), first.shape[1], -1),), rows.targets
    if preset.task == "image_generator":
        rng = np.random.default_rng([preset.training.seed, stream])
        noise = rng.standard_normal((len(first), preset.architecture["latent"])).astype(np.float32)
        return (noise,), first * 2 - 1
    if preset.task == "identity":
        return (first,), first
    return (first,), rows.targets


def _signature(preset: ModelPreset, dataset: Dataset, inputs: tuple[np.ndarray, ...], targets: np.ndarray) -> Signature:
    shape = tuple(inputs[0].shape[1:])
    if preset.task == "seq2seq":
        return signature.seq2seq(shape, preset.architecture["vocabulary"])
    if preset.task == "image_generator":
        return signature.image_generator(shape, tuple(targets.shape[1:]))
    if preset.task == "identity":
        return signature.identity(shape)
    classifier = {
        "image_classifier": signature.image_classifier,
        "vector_classifier": signature.vector_classifier,
        "sequence_classifier": signature.sequence_classifier,
        "token_classifier": signature.token_classifier,
    }[preset.task]
    return classifier(shape, len(dataset.class_names))
