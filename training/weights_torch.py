"""Weights of a torch model to and from the neutral form; weights_tf.py is its pair, function by function.

A weight is named `<layer>/<variable>`: the module's name in the model and Keras' name of the variable.

| module               | neutral (Keras' layout)                  | torch                                                |
|----------------------|------------------------------------------|------------------------------------------------------|
| Linear               | kernel (in, out)                         | weight (out, in)                                     |
| Conv2d               | kernel HWIO                              | weight OIHW                                          |
| ConvTranspose2d      | kernel HWOI                              | weight IOHW                                          |
| BatchNorm, LayerNorm | gamma, beta, moving_mean, moving_variance | weight, bias, running_mean, running_var              |
| Embedding            | embeddings                               | weight                                               |
| LSTM, RNN            | kernel, recurrent_kernel, bias           | weight_ih_l0.T, weight_hh_l0.T, bias_ih_l0 + bias_hh_l0 |
| GRU                  | gates z, r, h; bias (2, 3 units)         | gates r, z, n; bias_ih_l0 and bias_hh_l0             |
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from faceoff.signature import Arrays


def weights(model: nn.Module) -> Arrays:
    """The model's weights in the neutral form."""
    return {name: to_neutral(module, kind, tensors) for name, module, kind, tensors in _variables(model)}


def load_weights(model: nn.Module, values: Arrays) -> None:
    """Load weights in the neutral form."""
    with torch.no_grad():
        for name, module, kind, tensors in _variables(model):
            for tensor, value in zip(tensors, from_neutral(module, kind, values[name]), strict=True):
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def to_neutral(module: nn.Module, kind: str, tensors: list[torch.Tensor]) -> np.ndarray:
    """From torch's layout to Keras'."""
    arrays = [tensor.detach().float().cpu().numpy() for tensor in tensors]
    if isinstance(module, nn.GRU):
        arrays = [_swap_gates(array) for array in arrays]
        value = np.stack(arrays) if kind == "bias" else arrays[0]
    else:
        value = np.sum(arrays, axis=0) if len(arrays) > 1 else arrays[0]
    if kind in ("kernel", "recurrent_kernel"):
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    return np.array(value, order="C")  # a copy: a view would follow the model's training


def from_neutral(module: nn.Module, kind: str, value: np.ndarray) -> list[np.ndarray]:
    """From Keras' layout to torch's, one array for each tensor."""
    if kind in ("kernel", "recurrent_kernel"):
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    if isinstance(module, nn.GRU):
        return [_swap_gates(array) for array in (value if kind == "bias" else [value])]
    if isinstance(module, nn.RNNBase) and kind == "bias":
        return [value, np.zeros_like(value)]
    return [value]


def _variables(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, list[torch.Tensor]]]:
    """(neutral name, module, kind, its tensors) of everything that a layer of `model` keeps."""
    for layer, module in model.named_modules():
        for kind, attributes in _attributes(module).items():
            tensors = [getattr(module, attribute) for attribute in attributes]
            if tensors[0] is not None:
                yield f"{layer}/{kind}", module, kind, tensors


def _attributes(module: nn.Module) -> dict[str, list[str]]:
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        return {"kernel": ["weight"], "bias": ["bias"]}
    if isinstance(module, nn.BatchNorm2d):
        return {"gamma": ["weight"], "beta": ["bias"], "moving_mean": ["running_mean"], "moving_variance": ["running_var"]}
    if isinstance(module, nn.LayerNorm):
        return {"gamma": ["weight"], "beta": ["bias"]}
    if isinstance(module, nn.Embedding):
        return {"embeddings": ["weight"]}
    if isinstance(module, nn.RNNBase):
        return {"kernel": ["weight_ih_l0"], "recurrent_kernel": ["weight_hh_l0"], "bias": ["bias_ih_l0", "bias_hh_l0"]}
    if any(True for _ in module.parameters(recurse=False)):
        raise TypeError(f"no rule for the weights of {type(module).__name__}: add one to {__name__}")
    return {}


def _swap_gates(array: np.ndarray) -> np.ndarray:
    first, second, third = np.split(array, 3)
    return np.concatenate([second, first, third])
