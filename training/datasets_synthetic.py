"""`synthetic`: rows of any shape and dtype from a seed, with targets that can be learned.

| task                          | row                                            | target                         |
|-------------------------------|------------------------------------------------|--------------------------------|
| image, vector, sequence, any  | its class's prototype plus noise, in [0, 1]    | the class                      |
| token_classifier              | ids; half of them from its class's own slice   | the class                      |
| seq2seq                       | ids; the target so far is the answer shifted   | the source reversed            |

Id 0 is padding, 1 begins a sentence; lengths vary from half to the whole, so masks matter.
"""

from __future__ import annotations

import numpy as np

from faceoff.presets import ModelPreset
from training.datasets import Dataset, Rows

FIRST_WORD = 2  # ids below are padding and the beginning of a sentence
BEGIN = 1


def make(preset: ModelPreset) -> Dataset:
    """The data set for `preset.synthetic`, the same for the same preset and seed."""
    sizes = preset.synthetic
    make_rows = {"token_classifier": tokens, "seq2seq": sentences}.get(preset.task, floats)
    return Dataset(
        name="synthetic",
        source=f"made from seed {preset.training.seed} (training.datasets_synthetic)",
        train=make_rows(preset, sizes.num_train, 10),
        test=make_rows(preset, sizes.num_test, 11),
        class_names=tuple(str(number) for number in range(sizes.num_classes)),
    )


def floats(preset: ModelPreset, count: int, stream: int) -> Rows:
    """float32 (count, *shape) in [0, 1]: 0.3 of the class's prototype and 0.7 of noise; int64 classes (count,)."""
    sizes, seed = preset.synthetic, preset.training.seed
    prototypes = np.random.default_rng([seed, 9]).random((min(sizes.num_classes, 64), *sizes.shape), np.float32)
    rng = np.random.default_rng([seed, stream])
    labels = rng.integers(0, len(prototypes), count)
    noise = rng.random((count, *sizes.shape), np.float32)
    return Rows(inputs=(np.float32(0.3) * prototypes[labels] + np.float32(0.7) * noise,), targets=labels)


def tokens(preset: ModelPreset, count: int, stream: int) -> Rows:
    """int32 ids and mask (count, length), int64 classes (count,)."""
    sizes, rng = preset.synthetic, np.random.default_rng([preset.training.seed, stream])
    words = preset.architecture["vocabulary"] - FIRST_WORD
    labels = rng.integers(0, sizes.num_classes, count)
    ids, mask = _padded(rng, count, sizes.shape[0], words)
    slice_size = words // sizes.num_classes
    own = FIRST_WORD + labels[:, np.newaxis] * slice_size + rng.integers(0, slice_size, ids.shape)
    ids = np.where(rng.random(ids.shape) < 0.5, own, ids) * mask
    return Rows(inputs=(ids.astype(np.int32), mask), targets=labels)


def sentences(preset: ModelPreset, count: int, stream: int) -> Rows:
    """int32 source and target so far (count, length); int64 (count, length) the source reversed, 0 where there is nothing."""
    rng, length = np.random.default_rng([preset.training.seed, stream]), preset.synthetic.shape[0]
    source, mask = _padded(rng, count, length, preset.architecture["vocabulary"] - FIRST_WORD)
    answer = np.zeros_like(source)
    for row, size in enumerate(mask.sum(1)):
        answer[row, :size] = source[row, :size][::-1]
    begin = np.full((count, 1), BEGIN, np.int32)
    so_far = np.concatenate([begin, answer[:, :-1]], axis=1) * mask
    return Rows(inputs=(source, so_far), targets=answer.astype(np.int64))


def _padded(rng: np.random.Generator, count: int, length: int, words: int) -> tuple[np.ndarray, np.ndarray]:
    """int32 ids and mask (count, length): words, then padding."""
    sizes = rng.integers((length + 1) // 2, length + 1, count)
    mask = (np.arange(length) < sizes[:, np.newaxis]).astype(np.int32)
    return rng.integers(FIRST_WORD, FIRST_WORD + words, (count, length)).astype(np.int32) * mask, mask
