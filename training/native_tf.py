"""What TensorFlow does its own way in native training; native_torch.py is its pair, function by function."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


def seed_everything(seed: int) -> None:
    """Before the model is built: its layers then draw their own initial weights from this seed."""
    keras.utils.set_random_seed(seed)


def draw_batches(num_rows: int, batch_size: int, num_steps: int, seed: int) -> np.ndarray:
    """int64 (num_steps, batch_size): epochs shuffled by tf.data over all rows."""
    per_epoch = num_rows // batch_size
    epochs = (
        tf.data.Dataset.range(num_rows)
        .shuffle(num_rows, seed=seed, reshuffle_each_iteration=True)
        .batch(batch_size, drop_remainder=True)
        .repeat(-(-num_steps // per_epoch))
        .take(num_steps)
    )
    return np.stack(list(epochs.as_numpy_iterator()))
