"""TensorBoard logs: the same tags from both frameworks, written with tensorboardX, and what writing them costs.

    with scalars.log(directory / "tensorboard") as board:
        board.add(step, {"loss": 0.41, "step_ms": 12.3})

`python -m training.board` opens them. Torch's own writer would import TensorFlow, and tensorboardX imports torch
where it finds it: here it finds it only where it is loaded already.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

TAGS = ("loss", "step_ms", "test_accuracy")  # what either side may write


class Board(Protocol):
    """Where scalars go."""

    cost_ms: list[float]  # of every call of `add`

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write `values`, whose names are of TAGS, at `step` (0 is the first)."""


@contextmanager
def log(directory: Path | None) -> Iterator[Board]:
    """A board that writes to `directory`, or nowhere if that is None."""
    if directory is None:
        yield Nowhere()
        return
    writer = _summary_writer()(str(directory))
    try:
        yield _TensorBoard(writer)
    finally:
        writer.close()


def _summary_writer() -> Any:
    """The SummaryWriter of tensorboardX, imported without the other framework."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it then fails, which tensorboardX expects
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter


class Nowhere:
    """A board that writes nothing."""

    def __init__(self) -> None:
        self.cost_ms: list[float] = []

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.cost_ms: list[float] = []

    def add(self, step: int, values: Mapping[str, float]) -> None:
        begin = time.perf_counter()
        for tag, value in values.items():
            assert tag in TAGS, tag
            self._writer.add_scalar(tag, value, step)
        self.cost_ms.append((time.perf_counter() - begin) * 1e3)
