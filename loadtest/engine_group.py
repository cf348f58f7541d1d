"""Several engine processes as one: each sends its share of a window's schedule, and their rows are the window's.

One engine is a group of one. A share of an open schedule is drawn at random, request by request: a Poisson process so thinned is
Poisson again (and all shares together are the schedule that one engine would send); a closed loop's connections are
divided. All engines begin at the same moment of CLOCK_MONOTONIC. Each is judged by the guard on its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from faceoff.cores import CoreSplit
from loadtest.engine_process import COLUMNS, Columns, Destination, EngineProcess, WindowResult
from loadtest.schedules import Schedule, shares

_TOGETHER_NS = 20_000_000  # from the last engine being ready to their common beginning


class EngineGroup:
    """A context manager around `num` engines, spread over the generator's cores."""

    def __init__(self, destination: Destination, cores: CoreSplit, num: int = 1) -> None:
        own = [replace(cores, generator=(cores.generator[at % len(cores.generator)],)) for at in range(num)]
        self._engines = [EngineProcess(destination, mine) for mine in (own if num > 1 else [cores])]
        self._numbers: list[list[int]] = [[] for _ in self._engines]  # of an engine's answers, in the group
        self._num_answers = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for engine in self._engines:
                stack.enter_context(engine)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def window(
        self, schedule: Schedule, *, connections: int, deadline_s: float, limit: tuple[int, int] | None = None
    ) -> list[WindowResult]:
        """Run one window (see EngineProcess.window); one result an engine, answers numbered through the group."""
        num = len(self._engines)
        for at, (engine, share) in enumerate(zip(self._engines, shares(schedule, num), strict=True)):
            mine = connections // num + (at < connections % num)
            engine.prepare(share, connections=mine, deadline_s=deadline_s, limit=limit)
        start_ns = None if num == 1 else time.monotonic_ns() + _TOGETHER_NS
        for engine in self._engines:
            engine.go(start_ns)
        return [self._numbered(at, engine.result()) for at, engine in enumerate(self._engines)]

    def rescued(self) -> Columns:
        """What an engine's death leaves of the window (see EngineProcess.rescued), of all engines."""
        found = [engine.rescued() for engine in self._engines]
        return {name: np.concatenate([columns[name] for columns in found]) for name in COLUMNS}

    def _numbered(self, at: int, result: WindowResult) -> WindowResult:
        numbers = self._numbers[at]
        answers = []
        for number, payload, body in result.answers:
            assert number == len(numbers), "an engine numbers its answers in order"
            numbers.append(self._num_answers)
            answers.append((self._num_answers, payload, body))
            self._num_answers += 1
        known = np.array([*numbers, -1], dtype=np.int64)  # no answer is the last place
        return replace(result, answers=answers, columns={**result.columns, "answer": known[result.columns["answer"]]})


def together(results: Sequence[WindowResult]) -> WindowResult:
    """The figures of several engines as of one, without rows: sums of what they used, the longest and latest of times."""
    lags = [result.loop_lag_p99_ns for result in results if result.loop_lag_p99_ns is not None]
    return WindowResult(
        columns={},
        answers=[],
        wall_ns=max(result.wall_ns for result in results),
        cpu_ns=sum(result.cpu_ns for result in results),
        run_queue_ns=max(result.run_queue_ns for result in results),
        steal_ticks=max(result.steal_ticks for result in results),
        total_ticks=max(result.total_ticks for result in results),
        loop_lag_p99_ns=max(lags, default=None),
        spun_ns=sum(result.spun_ns for result in results),
        stopped_early=any(result.stopped_early for result in results),
    )
