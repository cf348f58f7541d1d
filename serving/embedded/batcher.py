"""Natural batching: whatever arrived while the model was busy is one run; a lone request runs at once.

One `NaturalBatcher` a model version, used from the event loop only. No timer: an idle model never waits.

- Requests share a run when they ask the same outputs of the same signature, their arrays differ in dimension 0
  only, and the model's rows were proved independent (`warmup`). All others run alone.
- A shared run is padded to the next warm size (`padded_rows`) by repeating its first row.
- If a shared run fails, each of its requests runs again alone, so that a bad request never fails a neighbour.
- A run that is expected to be short happens in the event loop itself: handing it to a thread costs as much as a small
  model. What is short for a lone request, which nobody waits behind, is less short for others. All else goes to a thread, so
  that the next batch is read and parsed meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from serving.embedded.errors import Code, ServingError
from serving.embedded.signature import Runnable, Signature

log = logging.getLogger(__name__)

MAX_NATURAL_BATCH = 64  # rows
MAX_RUNS = 4  # runs of one model version at a time: of requests that cannot share one
INLINE_LIMIT_S = 0.003  # the longest run of a lone request the event loop may make itself
INLINE_SHARED_LIMIT_S = 0.0005  # and of others: no more than handing over costs and reading the next batch takes


class Batcher(Protocol):
    """How runs of one model version are scheduled."""

    def submit(
        self, signature: Signature, feeds: Sequence[np.ndarray], outputs: tuple[str, ...]
    ) -> asyncio.Future[list[np.ndarray]]:
        """A future of the named outputs; its error is a ServingError."""
        ...

    async def drained(self) -> None:
        """Return when nothing is queued or running."""
        ...


@dataclass(eq=False, kw_only=True)
class Task:
    """One request's part of a run."""

    signature: Signature
    feeds: Sequence[np.ndarray]
    outputs: tuple[str, ...]
    num_rows: int
    future: asyncio.Future[list[np.ndarray]]
    queued_at: float


Outcome = list[np.ndarray] | Exception
Observer = Callable[[float, list[float]], None]  # seconds of a run, seconds each of its requests had waited


class NaturalBatcher:
    """See the module. `executor` takes the runs that are too long for the event loop."""

    def __init__(
        self,
        model: Runnable,
        executor: Executor,
        *,
        inline_limit_s: float = INLINE_LIMIT_S,
        max_runs: int = MAX_RUNS,
        observer: Observer | None = None,
    ) -> None:
        self._model = model
        self._observer = observer
        self._executor = executor
        self._inline_limit_s = inline_limit_s
        self._max_runs = max_runs
        self._loop = asyncio.get_running_loop()
        self._queues: dict[object, list[Task]] = {}
        self._scheduled = False
        self._running: set[object] = set()  # keys of the queues that have a run under way
        self._idle: list[asyncio.Future[None]] = []
        self._cost_s: dict[tuple[str, int], float] = {}

    def submit(
        self, signature: Signature, feeds: Sequence[np.ndarray], outputs: tuple[str, ...]
    ) -> asyncio.Future[list[np.ndarray]]:
        """See Batcher."""
        future: asyncio.Future[list[np.ndarray]] = self._loop.create_future()
        limit = self._model.max_natural_batch(signature)
        num_rows = _common_rows(feeds)
        task = Task(
            signature=signature, feeds=feeds, outputs=outputs, num_rows=num_rows, future=future, queued_at=self._loop.time()
        )
        key: object = task
        if 0 < num_rows < limit:
            key = (signature.name, outputs, *((array.dtype.char, array.shape[1:]) for array in feeds))
        self._queues.setdefault(key, []).append(task)
        self._schedule()
        return future

    async def drained(self) -> None:
        """See Batcher."""
        while self._queues or self._running:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(waiter)
            await waiter

    def _schedule(self) -> None:
        # call_soon, not now: requests that the loop has already read are then part of the same batch
        if not self._scheduled and self._queues:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        # a queue waits for its own run only (that is what makes the next batch); others go beside it
        for key in [key for key in self._queues if key not in self._running]:
            if len(self._running) >= self._max_runs:
                break
            tasks = self._take(key)
            if not tasks:
                continue
            started = self._loop.time()
            cost = self._cost_s.get(_cost_key(tasks))
            lone = len(tasks) == 1 and not self._queues and not self._running
            limit = self._inline_limit_s if lone else min(self._inline_limit_s, INLINE_SHARED_LIMIT_S)
            if cost is not None and cost < limit:
                self._finish(tasks, started, *timed(run_tasks, self._model, tasks))
                self._schedule()  # other queues after a turn of the loop, which sends these answers
                break
            self._running.add(key)
            running = self._loop.run_in_executor(self._executor, timed, run_tasks, self._model, tasks)
            running.add_done_callback(partial(self._thread_done, key, tasks, started))
        self._wake()

    def _take(self, key: object) -> list[Task]:
        """A queue's oldest tasks, as many as one run may hold; requests whose client has gone are dropped."""
        waiting = self._queues[key]
        limit = self._model.max_natural_batch(waiting[0].signature)
        taken: list[Task] = []
        rows = used = 0
        for task in waiting:
            if taken and rows + task.num_rows > limit:
                break
            used += 1
            if not task.future.done():
                taken.append(task)
                rows += task.num_rows
        rest = waiting[used:]
        del self._queues[key]
        if rest:
            self._queues[key] = rest  # to the back: other signatures get their turn
            self._schedule()
        return taken

    def _thread_done(
        self, key: object, tasks: list[Task], started: float, done: asyncio.Future[tuple[list[Outcome], float]]
    ) -> None:
        self._running.discard(key)
        self._finish(tasks, started, *done.result())
        self._schedule()
        self._wake()

    def _finish(self, tasks: list[Task], started: float, outcomes: list[Outcome], seconds: float) -> None:
        if self._observer is not None:
            self._observer(seconds, [started - task.queued_at for task in tasks])
        key = _cost_key(tasks)
        before = self._cost_s.get(key, seconds)
        self._cost_s[key] = 0.8 * before + 0.2 * seconds if seconds < before else seconds
        for task, outcome in zip(tasks, outcomes, strict=True):
            if task.future.done():
                continue
            if isinstance(outcome, Exception):
                task.future.set_exception(outcome)
            else:
                task.future.set_result(outcome)

    def _wake(self) -> None:
        if not self._queues and not self._running:
            waiting, self._idle = self._idle, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)


def _cost_key(tasks: list[Task]) -> tuple[str, int]:
    elements = sum(max((int(array.size) for array in task.feeds), default=0) for task in tasks)
    return tasks[0].signature.name, elements.bit_length()


def timed(
    run: Callable[[Runnable, list[Task]], list[Outcome]], model: Runnable, tasks: list[Task]
) -> tuple[list[Outcome], float]:
    """What `run` gives, and the seconds it took."""
    started = time.perf_counter()
    outcomes = run(model, tasks)
    return outcomes, time.perf_counter() - started


def run_tasks(model: Runnable, tasks: list[Task]) -> list[Outcome]:
    """One run for all of `tasks`, or one each where the shared one fails. Never raises."""
    if len(tasks) == 1:
        return [_run_alone(model, tasks[0])]
    try:
        return [*_run_together(model, tasks)]
    except Exception as error:
        if not isinstance(error, ServingError):
            log.exception("A shared run failed")
        return [_run_alone(model, task) for task in tasks]


def _run_alone(model: Runnable, task: Task) -> Outcome:
    try:
        return model.run(task.signature, task.feeds, task.outputs)
    except ServingError as error:
        return error
    except Exception:
        log.exception("A run failed")
        return ServingError(Code.INTERNAL, "The model could not be run; the server's log has the reason")


def _run_together(model: Runnable, tasks: list[Task]) -> list[list[np.ndarray]]:
    first = tasks[0]
    total = sum(task.num_rows for task in tasks)
    padded = padded_rows(total)
    feeds = []
    for index in range(len(first.feeds)):
        parts = [task.feeds[index] for task in tasks]
        if padded > total:
            parts.append(np.repeat(parts[0][:1], padded - total, axis=0))
        feeds.append(np.concatenate(parts))
    results = model.run(first.signature, feeds, first.outputs)
    if any(array.ndim == 0 or array.shape[0] != padded for array in results):
        raise ServingError(Code.INTERNAL, "an output has another number of rows than the inputs")
    split: list[list[np.ndarray]] = []
    at = 0
    for task in tasks:
        split.append([array[at : at + task.num_rows] for array in results])
        at += task.num_rows
    return split


def padded_rows(rows: int) -> int:
    """The next size of 1, 2, 3, 4, 6, 8, 12, 16, 24, …: powers of two and what lies halfway (`warmup` runs them all)."""
    power = 1 << (rows - 1).bit_length()
    halfway = 3 * power // 4
    return halfway if power >= 4 and rows <= halfway else power


def _common_rows(feeds: Sequence[np.ndarray]) -> int:
    """Dimension 0 shared by every array; 0 where there is none."""
    sizes: set[Any] = {array.shape[0] if array.ndim else 0 for array in feeds}
    return int(sizes.pop()) if len(sizes) == 1 else 0
