"""--enable_batching: TensorFlow Serving's own batching, by its parameters and with its refusals.

As BatchingSession (batching_session.cc): a batch closes when it is full or `batch_timeout_micros` after it was
opened; `num_batch_threads` batches run at a time, whatever the model; a request whose outputs are not all of the
signature's runs unbatched; an error of a batch is the error of each of its requests; requests of different inner shapes
fail together unless they are padded (with the tensor's first element). One deliberate difference: a request of
0 rows runs at once, where the real server keeps it until a later request shares its batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from serving.embedded.batcher import Observer, Outcome, Task, timed
from serving.embedded.config import BatchingConfig
from serving.embedded.errors import Code, ServingError, invalid
from serving.embedded.signature import Runnable, Signature

log = logging.getLogger(__name__)


class BatchThreads:
    """The `num_batch_threads` that all models of the process share."""

    def __init__(self, config: BatchingConfig, executor: Executor) -> None:
        self.config = config
        self.executor = executor
        self._free = config.num_batch_threads
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait for a thread, first come first served."""
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def release(self) -> None:
        """Give the thread to whoever has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class _Queue:
    """One signature's batches; the last one is open, the others are full."""

    def __init__(self) -> None:
        self.batches: deque[list[Task]] = deque()


class SessionBatcher:
    """Implements `batcher.Batcher` for one model version."""

    def __init__(self, model: Runnable, threads: BatchThreads, observer: Observer | None = None) -> None:
        self._model = model
        self._threads = threads
        self._config = threads.config
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._queues: dict[str, _Queue] = {}
        self._work: set[asyncio.Task[None]] = set()

    def submit(
        self, signature: Signature, feeds: Sequence[np.ndarray], outputs: tuple[str, ...]
    ) -> asyncio.Future[list[np.ndarray]]:
        """See Batcher."""
        future: asyncio.Future[list[np.ndarray]] = self._loop.create_future()
        batched = set(outputs) == set(signature.outputs)
        try:
            num_rows = self._checked_rows(feeds) if batched else 0
        except ServingError as error:
            future.set_exception(error)
            return future
        task = Task(
            signature=signature, feeds=feeds, outputs=outputs, num_rows=num_rows, future=future, queued_at=self._loop.time()
        )
        if not batched or num_rows == 0:
            self._spawn(self._run([task], unbatched=True))
        else:
            self._enqueue(task)
        return future

    async def drained(self) -> None:
        """See Batcher."""
        while self._work:
            await asyncio.wait(set(self._work))

    def _checked_rows(self, feeds: Sequence[np.ndarray]) -> int:
        if any(array.ndim == 0 for array in feeds):
            raise invalid("Batching Run() input tensors must have at least one dimension")
        sizes = {array.shape[0] for array in feeds}
        if len(sizes) != 1:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        num_rows = sizes.pop()
        if num_rows > self._config.max_batch_size:
            raise invalid(f"Task size {num_rows} is larger than maximum input batch size {self._config.max_batch_size}")
        return int(num_rows)

    def _enqueue(self, task: Task) -> None:
        queue = self._queues.setdefault(task.signature.name, _Queue())
        open_batch = queue.batches[-1] if queue.batches else None
        if open_batch is None or _rows(open_batch) + task.num_rows > self._config.max_batch_size:
            if len(queue.batches) >= self._config.max_enqueued_batches:
                full = "The batch scheduling queue to which this task was submitted is full"
                task.future.set_exception(ServingError(Code.UNAVAILABLE, full))
                return
            open_batch = []
            queue.batches.append(open_batch)
            self._spawn(self._serve(queue, open_batch))
        open_batch.append(task)

    async def _serve(self, queue: _Queue, batch: list[Task]) -> None:
        """Wait until `batch` is full or its time is over and a thread is free, then run it."""
        deadline = self._loop.time() + self._config.batch_timeout_micros / 1e6
        while (left := deadline - self._loop.time()) > 0 and not self._is_full(queue, batch):
            await asyncio.sleep(min(left, 0.001))
        await self._threads.acquire()
        try:
            queue.batches.remove(batch)
            await self._run(batch)
        finally:
            self._threads.release()

    def _is_full(self, queue: _Queue, batch: list[Task]) -> bool:
        return queue.batches[-1] is not batch or _rows(batch) >= self._config.max_batch_size

    async def _run(self, batch: list[Task], *, unbatched: bool = False) -> None:
        tasks = [task for task in batch if not task.future.done()]
        if not tasks:
            return
        started = self._loop.time()
        run = _alone if unbatched else self._together
        outcomes, seconds = await self._loop.run_in_executor(self._threads.executor, timed, run, self._model, tasks)
        if self._observer is not None:
            self._observer(seconds, [started - task.queued_at for task in tasks])
        for task, outcome in zip(tasks, outcomes, strict=True):
            if task.future.done():
                continue
            if isinstance(outcome, Exception):
                task.future.set_exception(outcome)
            else:
                task.future.set_result(outcome)

    def _together(self, model: Runnable, tasks: list[Task]) -> list[Outcome]:
        try:
            return [*merged_run(model, tasks, self._config)]
        except ServingError as error:
            return [ServingError(error.code, error.message) for _ in tasks]
        except Exception:
            log.exception("A batch failed")
            return [ServingError(Code.INTERNAL, "The batch could not be run; the server's log has the reason") for _ in tasks]

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._work.add(task)
        task.add_done_callback(self._work.discard)


def _alone(model: Runnable, tasks: list[Task]) -> list[Outcome]:
    from serving.embedded.batcher import run_tasks

    return run_tasks(model, tasks)


def _rows(batch: list[Task]) -> int:
    return sum(task.num_rows for task in batch)


def merged_run(model: Runnable, tasks: list[Task], config: BatchingConfig) -> list[list[np.ndarray]]:
    """One run of every task's rows, split again. Raises ServingError for the whole batch."""
    signature = tasks[0].signature
    outputs = tasks[0].outputs
    total = _rows(tasks)
    padding = next((size for size in config.allowed_batch_sizes if size >= total), total) - total
    feeds = []
    for index, alias in enumerate(signature.feed_order):
        parts = [task.feeds[index] for task in tasks]
        if len({array.shape[1:] for array in parts}) > 1 or len({array.ndim for array in parts}) > 1:
            parts = _padded_lengths(parts, signature.inputs[alias].tensor, config)
        if padding:
            parts.append(np.repeat(parts[-1][:1], padding, axis=0))
        feeds.append(parts[0] if len(parts) == 1 else np.concatenate(parts))
    results = model.run(signature, feeds, outputs)
    if len(tasks) == 1 and not padding:
        return [results]
    for array in results:
        if array.ndim == 0:
            raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if array.shape[0] != total + padding:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors",
            )
    split: list[list[np.ndarray]] = []
    at = 0
    for task in tasks:
        split.append([array[at : at + task.num_rows] for array in results])
        at += task.num_rows
    return split


def _padded_lengths(parts: list[np.ndarray], tensor: str, config: BatchingConfig) -> list[np.ndarray]:
    """Arrays of one inner shape: every dimension as long as its longest, filled with the array's first element."""
    if not config.pad_variable_length_inputs or len({array.ndim for array in parts}) > 1:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"Tensors with name '{tensor}' from different tasks have different shapes and padding is turned off. "
            "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal "
            "dimensions starting with the first dim.",
        )
    inner = np.max([array.shape[1:] for array in parts], axis=0)
    padded = []
    for array in parts:
        whole = np.full((array.shape[0], *inner), array.flat[0] if array.size else 0, dtype=array.dtype)
        whole[tuple(slice(0, size) for size in array.shape)] = array
        padded.append(whole)
    return padded
