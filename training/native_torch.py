"""What PyTorch does its own way in native training; native_tf.py is its pair, function by function."""

from __future__ import annotations

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Before the model is built: its layers then draw their own initial weights from this seed."""
    torch.manual_seed(seed)


def draw_batches(num_rows: int, batch_size: int, num_steps: int, seed: int) -> np.ndarray:
    """int64 (num_steps, batch_size): epochs shuffled by torch's generator, as DataLoader(shuffle=True) does it."""
    generator = torch.Generator().manual_seed(seed)
    per_epoch = num_rows // batch_size
    epochs = [
        torch.randperm(num_rows, generator=generator)[: per_epoch * batch_size].reshape(per_epoch, batch_size)
        for _ in range(-(-num_steps // per_epoch))
    ]
    rows: np.ndarray = torch.cat(epochs)[:num_steps].numpy()
    return rows
