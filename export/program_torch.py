"""The served torch model as a module and, traced once for all who need it, as a torch.export program."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from export import writing
from faceoff.servables import Trained

MAX_ROWS = 1024  # of one call; torch.export wants a bound
MAX_LENGTH = 1024  # of a sequence, where the architecture has no bound of its own


class LoadedModel:
    """`module` with the served weights, in evaluation mode, and what is made of it."""

    def __init__(self, trained: Trained, *, max_rows: int = MAX_ROWS, example_rows: int = 2) -> None:
        """`example_rows` is at least 2: a batch of 1 would be taken for a constant."""
        from training import weights_torch

        pair = importlib.import_module(f"training.{trained.preset['module']}_torch")
        module = pair.build(trained.preset["architecture"], trained.signature.to_dict())
        with np.load(trained.directory / "weights.npz") as data:
            weights_torch.load_weights(module, dict(data))
        self.module = module.eval()
        self._trained, self._max_rows, self._example_rows = trained, max_rows, example_rows

    @property
    def example(self) -> tuple[Any, ...]:
        """The first golden rows, in the signature's order."""
        import torch

        rows = self._trained.golden.rows(0, self._example_rows).inputs
        return tuple(torch.from_numpy(rows[spec.name]) for spec in self._trained.signature.inputs)

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Inputs in the signature's order to outputs in the signature's order, by the module."""
        import torch

        with torch.inference_mode():
            found = self.module(*map(torch.from_numpy, arrays))
            return [tensor.numpy() for tensor in (found if isinstance(found, tuple) else (found,))]

    @cached_property
    def program(self) -> Any:
        """The program of torch.export (https://docs.pytorch.org/docs/stable/export.html), batch and length dynamic."""
        import torch

        batch = torch.export.Dim("batch", min=1, max=self._max_rows)
        length = torch.export.Dim("length", min=1, max=self._trained.preset["architecture"].get("max_length", MAX_LENGTH))
        shapes = tuple({0: batch, **{axis + 1: length for axis in spec.dynamic}} for spec in self._trained.signature.inputs)
        example = self.example
        with torch.no_grad(), writing.converting():
            return torch.export.export(self.module, example, dynamic_shapes=shapes)
