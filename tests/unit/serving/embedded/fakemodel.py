"""A model without TensorFlow: y = x / 2 + 2 in numpy, with a log of its runs and a gate to hold them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from serving.embedded.errors import invalid
from serving.embedded.signature import Signature, TensorInfo

INPUT = TensorInfo(tensor="x:0", dtype_number=1, shape=(-1,))
OUTPUT = TensorInfo(tensor="y:0", dtype_number=1, shape=(-1,))


def signature(name: str = "serving_default", **inputs: TensorInfo) -> Signature:
    return Signature(
        name=name,
        method_name="tensorflow/serving/predict",
        inputs=inputs or {"x": INPUT},
        outputs={"y": OUTPUT},
        proto=SimpleNamespace(inputs={}, outputs={}, method_name="tensorflow/serving/predict"),
    )


class FakeModel:
    """`Runnable`; fails on a value of 13, in whatever company it comes."""

    def __init__(self, name: str = "fake", version: int = 1, *, max_rows: int = 64) -> None:
        self.name = name
        self.version = version
        self.signatures = {"serving_default": signature()}
        self.runs: list[tuple[int, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False
        self._max_rows = max_rows

    def run(self, signature: Signature, feeds: Sequence[np.ndarray], outputs: tuple[str, ...]) -> list[np.ndarray]:
        assert not self.closed
        self.gate.wait(30)
        self.runs.append(feeds[0].shape)
        if (feeds[0] == 13).any():
            raise invalid("13 is not served")
        return [feeds[0] / np.float32(2) + np.float32(2) for _ in outputs]

    def max_natural_batch(self, signature: Signature) -> int:
        return self._max_rows

    def close(self) -> None:
        self.closed = True


def rows(*values: Any) -> list[np.ndarray]:
    return [np.array(values, "f4")]
