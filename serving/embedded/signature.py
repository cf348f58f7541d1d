"""What one signature of a SavedModel takes and gives: the nouns between the codecs and TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from serving.embedded import dtypes
from serving.embedded.errors import Code, ServingError

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One input or output: `tensor` is its name in the graph; `shape` has -1 where unknown, None for unknown rank."""

    tensor: str
    dtype_number: int
    shape: tuple[int, ...] | None

    @property
    def has_batch(self) -> bool:
        """Whether dimension 0 exists and is dynamic."""
        return bool(self.shape) and self.shape is not None and self.shape[0] == -1

    @property
    def dtype(self) -> dtypes.DType:
        """Raises ServingError(UNIMPLEMENTED) for a type this server holds no values of."""
        known = dtypes.by_number(self.dtype_number)
        if known is None:
            raise ServingError(Code.UNIMPLEMENTED, f"tensors of TensorFlow type {self.dtype_number} are not supported")
        return known


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Aliases to tensors. `proto` is the SignatureDef itself, for metadata and messages."""

    name: str
    method_name: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    proto: Any = field(default=None, compare=False, repr=False)

    @cached_property
    def feed_order(self) -> tuple[str, ...]:
        """Input aliases in the order their arrays are fed: by tensor name, as DirectSession counts its args."""
        return tuple(sorted(self.inputs, key=lambda alias: self.inputs[alias].tensor))

    @cached_property
    def output_order(self) -> tuple[str, ...]:
        """Output aliases, sorted."""
        return tuple(sorted(self.outputs))

    @cached_property
    def has_batch(self) -> bool:
        """Whether rows of different requests may share a run: every input and output has a dynamic dimension 0."""
        return bool(self.inputs) and all(info.has_batch for info in (*self.inputs.values(), *self.outputs.values()))


def from_proto(name: str, proto: Any) -> Signature:
    """A Signature from a SignatureDef message."""
    return Signature(
        name=name,
        method_name=proto.method_name,
        inputs={alias: _info(proto.inputs[alias]) for alias in sorted(proto.inputs)},
        outputs={alias: _info(proto.outputs[alias]) for alias in sorted(proto.outputs)},
        proto=proto,
    )


def _info(proto: Any) -> TensorInfo:
    shape = None if proto.tensor_shape.unknown_rank else tuple(dim.size for dim in proto.tensor_shape.dim)
    return TensorInfo(tensor=proto.name, dtype_number=proto.dtype, shape=shape)


class Runnable(Protocol):
    """A loaded model version as everything above TensorFlow sees it."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def version(self) -> int:
        """The version's number."""
        ...

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """By signature name."""
        ...

    def run(self, signature: Signature, feeds: Sequence[np.ndarray], outputs: tuple[str, ...]) -> list[np.ndarray]:
        """The named outputs for `feeds` in `feed_order`. Blocks. Raises ServingError."""
        ...

    def max_natural_batch(self, signature: Signature) -> int:
        """Rows that natural batching may put together; 0 or 1 where rows must not be mixed."""
        ...
