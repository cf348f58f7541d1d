"""One training step in PyTorch, in any of its modes; step_tf.py is its pair, function by function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from training import optim_torch
from training.losses_torch import Phase
from training.optimizers import Recipe

MODES = ("eager", "compile")  # the first is the default


def set_precision(precision: str) -> None:
    """Of the whole process: TF32 on or off, numbers of float64 or float32; bf16 is autocast's, in `make`.

    Before the model is built: its parameters take the type when they are made.
    """
    torch.set_default_dtype(torch.float64 if precision == "float64" else torch.float32)
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def tensor(array: np.ndarray) -> torch.Tensor:
    """`array` on the host, real numbers in the type that `set_precision` set."""
    found = torch.from_numpy(array)
    return found.to(torch.get_default_dtype()) if found.is_floating_point() else found


def make(
    mode: str, *, recipe: Recipe, precision: str, phases: Sequence[Phase], inputs: Sequence[torch.Tensor], targets: torch.Tensor
) -> Callable[[torch.Tensor], float]:
    """A function from the rows of a batch, int64 (batch,), to its loss on the host, summed over the phases."""
    optimizers = [optim_torch.build(recipe, phase.parameters) for phase in phases]
    losses = [_in_mode(mode, cast(precision, phase.loss, targets.device.type)) for phase in phases]

    def step(rows: torch.Tensor) -> float:
        batch, answers = [array[rows] for array in inputs], targets[rows]
        total = 0.0
        for loss_of, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss = loss_of(batch, answers)
            loss.backward()
            optim_torch.apply(optimizer)
            total += float(loss.item())  # waits for the device: a step's time is that of its work
        return total

    return step


def _in_mode(mode: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as it stands, or compiled at its first call: forward and backward; the update stays eager."""
    if mode == "eager":
        return function
    assert mode == "compile", mode
    compiled: Callable[..., Any] = torch.compile(function)
    return compiled


def cast(precision: str, function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """In bf16: matrix products and convolutions in bfloat16, weights and losses in float32."""
    if precision != "bf16":
        return function

    def autocast(*args: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16):
            return function(*args)

    return autocast
