"""Golden inputs: ordinary rows of the test set and eight extremes, made for the kind of input.

Distinct rows make a swapped answer visible; the extremes make a flushed, clamped or wrongly masked one visible.
"""

from __future__ import annotations

import numpy as np

from faceoff.signature import Arrays, Signature

NUM_EXTREMES = 8


def draw(signature: Signature, test_inputs: Arrays, *, count: int, vocabulary: int, seed: int) -> Arrays:
    """`count` rows of every input: test rows (repeated with fresh values when there are too few), then the extremes."""
    rng = np.random.default_rng([seed, 2])
    if all(spec.dtype == "float32" for spec in signature.inputs):
        extremes = {spec.name: float_extremes(spec.shape, rng) for spec in signature.inputs}
    else:
        extremes = token_extremes(signature, vocabulary, rng)
    ordinary = count - NUM_EXTREMES
    rows = {}
    for spec in signature.inputs:
        found = test_inputs[spec.name]
        chosen = found[np.arange(ordinary) % len(found)].copy()
        if spec.dtype == "float32" and ordinary > len(found):
            chosen[len(found) :] *= rng.uniform(0.5, 1.0, (ordinary - len(found), *[1] * len(spec.shape))).astype(np.float32)
        rows[spec.name] = np.concatenate([chosen, extremes[spec.name].astype(spec.dtype)])
    return rows


def float_extremes(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(8, *shape): zeros, ones, a float32 denormal, a ramp (layout), and noise beyond the range of images."""
    return np.stack(
        [
            np.zeros(shape),
            np.ones(shape),
            np.full(shape, np.float32(1e-40)),
            np.linspace(0, 1, int(np.prod(shape))).reshape(shape),
            *rng.uniform(-1.0, 1.0, (4, *shape)),
        ]
    ).astype(np.float32)


def token_extremes(signature: Signature, vocabulary: int, rng: np.random.Generator) -> Arrays:
    """The lowest and the highest id, a ramp and random ids, at lengths 1, 2, half and whole; ids behind the mask stay.

    An id behind the mask must not reach the answer of a model with a mask; without one, 0 is padding.
    """
    length = signature.inputs[0].shape[0]
    ids = np.stack(
        [
            np.full(length, vocabulary - 1),
            np.full(length, 2),
            np.arange(length) * (vocabulary - 1) // max(length - 1, 1),
            *rng.integers(2, vocabulary, (5, length)),
        ]
    )
    sizes = np.array([length, length, length, 1, 2, (length + 1) // 2, length - 1 or 1, length])
    mask = np.arange(length) < sizes[:, np.newaxis]
    by_name = {"ids": ids, "mask": mask, "source": ids * mask, "target": np.roll(ids, 1, axis=0) * mask}
    return {spec.name: by_name[spec.name] for spec in signature.inputs}
