"""The fast path of reading gRPC Predict: requests that begin as an earlier one did, by a look-up and numpy.

A request of one tensor is nearly always a head (model, signature, alias, type, shape, lengths) and then its
`tensor_content` to the very end, and clients send the same head again and again. What a head means is learned once, from
protobuf; from then on a request of that head and that length is read without a message object. A template says what bytes
mean, nothing about the models that are loaded, so a reload cannot make it wrong.

All else is read by protobuf and gives the same (tests/unit/serving/embedded/test_predict_fast.py compares the two on
generated requests).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.embedded import tensors
from serving.embedded.versions import ModelSpec

MAX_LENGTHS = 64  # of requests that templates are kept for; the one not used for longest goes first
MAX_OF_LENGTH = 8  # templates of one length; the oldest goes first
MAX_HEAD = 1024  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """A request as protobuf reads it: the ordinary path. `inputs` raises ServingError for what is no tensor."""

    message: Any
    spec: ModelSpec

    @property
    def aliases(self) -> Sequence[str]:
        """The names of the inputs."""
        return list(self.message.inputs)

    @property
    def output_filter(self) -> Sequence[str]:
        """The names of the wanted outputs; none means all."""
        return self.message.output_filter  # type: ignore[no-any-return]

    def inputs(self, data: bytes) -> dict[str, np.ndarray]:
        """The arrays by name; `data` is what the message was read from."""
        return {alias: tensors.to_numpy(proto, alias) for alias, proto in self.message.inputs.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """What is `head` and then the bytes of one array: the same face as Parsed."""

    head: bytes
    spec: ModelSpec
    aliases: tuple[str]
    dtype: np.dtype
    shape: tuple[int, ...]
    output_filter: tuple[()] = ()

    def inputs(self, data: bytes) -> dict[str, np.ndarray]:
        """The array by name."""
        content = data[len(self.head) :]  # a slice begins where its numbers are aligned, a view into `data` may not
        return {self.aliases[0]: np.frombuffer(content, self.dtype).reshape(self.shape)}


class Templates:
    """What was learned, bounded in number and size. Used from the event loop only."""

    def __init__(self) -> None:
        self._of_length: OrderedDict[int, list[Template]] = OrderedDict()

    def find(self, data: bytes) -> Template | None:
        """The template of a serialized PredictRequest, if one is known."""
        length = len(data)
        for template in self._of_length.get(length, ()):
            if data.startswith(template.head):
                self._of_length.move_to_end(length)
                return template
        return None

    def learn(self, data: bytes, request: Parsed, inputs: dict[str, np.ndarray]) -> None:
        """Keep what `data` means, which was read as `request` and `inputs`, where nothing but the content can differ."""
        if len(inputs) != 1:
            return
        ((alias, array),) = inputs.items()
        num_bytes = len(request.message.inputs[alias].tensor_content)
        if not num_bytes or array.dtype.kind in "Ob":
            return  # not the bytes as they are: strings have their lengths before them, and a bool any byte
        head = _head(request.message.model_spec.SerializeToString(), alias, array, num_bytes)
        if len(head) > MAX_HEAD or len(head) + num_bytes != len(data) or not data.startswith(head):
            return  # more is in it, or in another order
        known = self._of_length.setdefault(len(data), [])
        known.append(Template(head=head, spec=request.spec, aliases=(alias,), dtype=array.dtype, shape=array.shape))
        del known[:-MAX_OF_LENGTH]
        self._of_length.move_to_end(len(data))
        if len(self._of_length) > MAX_LENGTHS:
            self._of_length.popitem(last=False)


def _head(spec: bytes, alias: str, array: np.ndarray, num_bytes: int) -> bytes:
    """A PredictRequest up to the content: every field in the order of its number, `num_bytes` of content the last of all."""
    tensor = tensors.head(array) + b"\x22" + tensors.varint(num_bytes)
    entry = tensors.field(b"\x0a", alias.encode()) + b"\x12" + tensors.varint(len(tensor) + num_bytes) + tensor
    return tensors.field(b"\x0a", spec) + b"\x12" + tensors.varint(len(entry) + num_bytes) + entry
