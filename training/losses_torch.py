"""Losses in PyTorch, as the phases of one training step; losses_tf.py is its pair, function by function.

Most models have one phase: the loss of the outputs, over all parameters. A pair of networks that train each other
has more, run in order in every step, each with its own parameters and so its own optimizer; its model file says
which, in `phases(model)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional


class Phase(NamedTuple):
    """`loss(inputs, targets)` is a scalar; its gradients are taken of `parameters`."""

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Sequence[torch.Tensor], torch.Tensor], torch.Tensor]


def phases(pair: ModuleType, model: nn.Module, loss: str) -> list[Phase]:
    """The phases of one training step of `model`, which `pair` built; none where there is nothing to train."""
    if hasattr(pair, "phases"):
        return [Phase(*phase) for phase in pair.phases(model)]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        return []
    measure = loss_of(loss)
    return [Phase("model", parameters, lambda inputs, targets: measure(forward(model, inputs), targets))]


def loss_of(loss: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """(outputs, targets) to a scalar."""
    return {"cross_entropy": cross_entropy, "token_cross_entropy": token_cross_entropy}[loss]


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over rows of logits (rows, classes) and targets (rows,)."""
    return functional.cross_entropy(logits, targets)


def token_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over tokens of logits (rows, length, vocabulary) and targets (rows, length) whose target is not 0."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0)


def forward(model: nn.Module, inputs: Sequence[torch.Tensor]) -> Any:
    """Call `model` with its inputs in the signature's order; its mode (train, eval) is set on the model."""
    return model(*inputs)
