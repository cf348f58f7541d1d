"""Locust's master and workers: every worker measures its share of the load, the master merges their raw rows.

    locust -f loadtest/locustfile.py --headless --master --expect-workers 2 --url ... --rate 400 --run both
    locust -f loadtest/locustfile.py --worker --master-host HOST          (twice)

Each worker draws the whole schedule from the seed and keeps its share of it (loadtest.schedules.shares), so that all shares
together are the load of one generator; the connections of a closed loop are divided. A worker's files travel as Locust messages,
in order; the master writes results/<run> when it has every row of every worker, and nothing when a worker was lost. Workers
on other machines begin within a second of each other, and clocks are not compared: a row's times are its worker's. Load goes to
loopback, so on another machine that is where the server's port must be forwarded to; in a cluster, k8s/base/locust.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faceoff import progress
from faceoff.errors import FaceoffError
from loadtest import outcome
from loadtest.options import Options

FILE, DONE = "faceoff_file", "faceoff_done"
_CHUNK = 1 << 20
_LOOK_S = 1.0  # between two looks whether all workers are still there


def work(runner: Any, options: Options, num_workers: int, on_window: Any) -> None:
    """On a worker: measure the share and send what it wrote."""
    index = runner.worker_index
    with tempfile.TemporaryDirectory(prefix="faceoff-worker-") as name:
        folder = Path(name)
        found = outcome.produce(options, folder=name, on_window=on_window, share=(index, num_workers))
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != outcome.NAME):
            with path.open("rb") as file:
                while data := file.read(_CHUNK):
                    part = {"worker": index, "name": str(path.relative_to(folder)), "data": data}
                    runner.send_message(FILE, part)
        runner.send_message(DONE, {"worker": index, "exit_code": found.exit_code, "error": found.error})


class Collector:
    """On the master: takes the workers' files and writes the results when all are done. `end` stops Locust."""

    def __init__(self, environment: Any, options: Callable[[], Options], end: Callable[[], None]) -> None:
        self._environment, self._options, self._end = environment, options, end
        self._num = environment.parsed_options.expect_workers
        self._folder = tempfile.TemporaryDirectory(prefix="faceoff-master-")
        self._done: dict[int, dict[str, Any]] = {}
        self._over = False
        environment.process_exit_code = 1  # of a master that is stopped before the end
        environment.runner.register_message(FILE, self._take)
        environment.runner.register_message(DONE, self._ended)

    def watch(self) -> None:
        """Until all are done: a worker too few or too many ends the test. Runs in a greenlet."""
        import gevent

        while not self._over and len(self._done) < self._num:
            gevent.sleep(_LOOK_S)
            found = self._environment.runner.worker_count
            if found != self._num and len(self._done) < self._num:
                trouble = "a worker was lost" if found < self._num else f"{found} workers came"
                self._finish(f"{trouble}: {self._num} were expected; nothing was merged", 1)
                return

    def _take(self, environment: Any, msg: Any, **_: Any) -> None:
        if self._over:  # what a worker still sends after another was lost
            return
        path = self._place(msg.data["worker"]) / msg.data["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(msg.data["data"])

    def _ended(self, environment: Any, msg: Any, **_: Any) -> None:
        self._done[msg.data["worker"]] = msg.data
        if self._over or len(self._done) < self._num:
            return
        failed = [done for _, done in sorted(self._done.items()) if done["error"]]
        if failed:
            self._finish(f"worker {failed[0]['worker']}: {failed[0]['error']}", failed[0]["exit_code"])
            return
        try:
            found = self._merge(self._options())
        except FaceoffError as error:
            self._finish(str(error), error.exit_code)
        else:
            self._finish(None, 0 if all(m["valid"] for m in found) else 3)

    def _merge(self, options: Options) -> list[dict[str, Any]]:
        from loadtest import merge, summary

        directory = options.store.run_dir(options.run)
        with outcome.replaced(directory) as folder:
            found: list[dict[str, Any]] = merge.merge([self._place(worker) for worker in range(self._num)], folder)
        summary.table(found)
        progress.say(f"summary: {directory / summary.NAME}")
        return found

    def _finish(self, error: str | None, exit_code: int) -> None:
        self._over = True
        self._environment.process_exit_code = exit_code
        if error:
            print(f"load test: {error}", file=sys.stderr, flush=True)  # noqa: T201  Locust has no last line of ours
        self._folder.cleanup()
        self._end()

    def _place(self, worker: int) -> Path:
        return Path(self._folder.name) / str(worker)
