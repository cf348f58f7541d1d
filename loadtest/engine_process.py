"""The stage's side of an engine: starts it, gives it jobs, reads its rows back.

It also runs inside Locust's gevent-patched process: pipes are read by select and os.read, which are cooperative there
and plain elsewhere, and no thread is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from faceoff import processes
from faceoff.cores import CoreSplit
from faceoff.errors import FaceoffError
from loadtest.schedules import Schedule

COLUMNS = ("scheduled", "sent", "done", "wait", "status", "payload", "answer", "bytes_in")
_FIGURES = ("wall_ns", "cpu_ns", "run_queue_ns", "steal_ticks", "total_ticks", "loop_lag_p99_ns", "spun_ns", "stopped_early")
_STARTUP_S = 60.0
_MARGIN_S = 15.0  # beyond the engine's own watchdog, for a machine that is busy


class EngineError(FaceoffError):
    """The engine ended, or did not answer in time."""


Columns = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class WindowResult:
    """One window as the engine saw it. `columns` are int64, named by `COLUMNS`; `answers` the distinct new ones."""

    columns: Columns
    answers: list[tuple[int, int, bytes]]
    wall_ns: int
    cpu_ns: int
    run_queue_ns: int
    steal_ticks: int
    total_ticks: int
    loop_lag_p99_ns: int | None
    spun_ns: int = 0  # of cpu_ns: watching the clock for the moment to send
    stopped_early: bool = False


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where an engine sends and what. `host` is a loopback address; `judged`: whether anybody reads the answers.

    `keep_alive`: see connection.Route.
    """

    protocol: str
    host: str
    port: int
    path: str
    content_type: str
    timeout_s: float
    payloads: tuple[bytes, ...]
    judged: bool = True
    keep_alive: bool = True


class EngineProcess:
    """A context manager around one `python -m loadtest.engine`."""

    def __init__(self, destination: Destination, cores: CoreSplit) -> None:
        self._destination, self._cores = destination, cores
        self._timeout_s = destination.timeout_s
        self._num_places = 0

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="faceoff-engine-")
        self._errors = (self._path("stderr")).open("wb")
        self._buffer = b""
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loadtest.engine"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                env=processes.environment(),
                preexec_fn=processes.die_with_parent,  # noqa: PLW1509  no thread of ours runs
            )
        except BaseException:
            self._clean()
            raise
        try:
            self._set_up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended already
                process.stdin.close()
        try:
            process.wait(2.0 if kind is None else 0.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._clean()

    @property
    def pid(self) -> int:
        """The engine's process."""
        return self._process.pid

    def window(
        self, schedule: Schedule, *, connections: int, deadline_s: float, limit: tuple[int, int] | None = None
    ) -> WindowResult:
        """Run one window; `deadline_s` bounds the time in which it may still send.

        `limit` (ns, count) ends it when more than so many requests failed or took longer than that.
        """
        self.prepare(schedule, connections=connections, deadline_s=deadline_s, limit=limit)
        self.go(None)
        return self.result()

    def prepare(self, schedule: Schedule, *, connections: int, deadline_s: float, limit: tuple[int, int] | None = None) -> None:
        """The first part of `window`: connections are open and everything lies ready."""
        self._num_places = len(schedule.order)
        self._path("rows").unlink(missing_ok=True)
        self._path("order").write_bytes(schedule.order.tobytes())
        if schedule.offsets_ns is not None:
            self._path("offsets").write_bytes(schedule.offsets_ns.tobytes())
        job = {
            "op": "window",
            "mode": "closed" if schedule.offsets_ns is None else "open",
            "at_once": schedule.at_once,
            "connections": connections,
            "deadline_s": deadline_s,
            "limit": {"slo_ns": limit[0], "max_over": limit[1]} if limit else None,
            **{name: str(self._path(name)) for name in ("order", "offsets", "rows", "answers")},
        }
        self._limit_s = deadline_s + 2 * self._timeout_s + _MARGIN_S
        self._ask(job, self._limit_s)

    def go(self, start_ns: int | None) -> None:
        """The second part: begin at this moment of CLOCK_MONOTONIC, None: now."""
        self._send({"start_ns": start_ns})

    def result(self) -> WindowResult:
        """The last part: wait for its end."""
        reply = self._reply(self._limit_s)
        table = self._table()[:, : reply["num_rows"]]
        bodies, at, answers = self._path("answers").read_bytes(), 0, []
        for number, payload, size in reply["answers"]:
            answers.append((number, payload, bodies[at : at + size]))
            at += size
        return WindowResult(
            columns=dict(zip(COLUMNS, table, strict=True)), answers=answers, **{name: reply[name] for name in _FIGURES}
        )

    def rescued(self) -> Columns:
        """The rows of the window in which the engine died that had got their answer; no rows when it did not start one.

        What these answers said is lost with the engine: their `answer` is that of a row without one.
        """
        try:
            table = self._table()
        except (OSError, ValueError):
            table = np.zeros((len(COLUMNS), 0), dtype=np.int64)
        columns = dict(zip(COLUMNS, table[:, table[COLUMNS.index("done")] != 0], strict=True))
        columns["answer"] = np.full_like(columns["answer"], -1)
        return columns

    def _table(self) -> npt.NDArray[np.int64]:
        return np.fromfile(self._path("rows"), dtype=np.int64).reshape(len(COLUMNS), self._num_places)

    def _set_up(self) -> None:
        to = self._destination
        self._path("payloads").write_bytes(b"".join(to.payloads))
        names = ("protocol", "host", "port", "path", "content_type", "keep_alive", "timeout_s", "judged")
        route = {name: getattr(to, name) for name in names}
        job = {
            "op": "setup",
            **route,
            "payloads": str(self._path("payloads")),
            "payload_sizes": [len(body) for body in to.payloads],
            "cores": list(self._cores.generator),
            "watch_cores": sorted({*self._cores.generator, *self._cores.servers}),
        }
        self._ask(job, _STARTUP_S)

    def _ask(self, job: dict[str, Any], limit_s: float) -> dict[str, Any]:
        self._send(job)
        return self._reply(limit_s)

    def _send(self, job: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        line = memoryview(json.dumps(job).encode() + b"\n")
        try:
            while line:
                line = line[self._process.stdin.write(line) or 0 :]
        except OSError as error:
            raise self._ended() from error

    def _reply(self, limit_s: float) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(self._read_line(time.monotonic() + limit_s))
        if not reply["ok"]:
            raise EngineError(f"the load engine failed: {reply['error']}\n{self._said()}".rstrip())
        return reply

    def _read_line(self, until: float) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise EngineError(f"the load engine (pid {self.pid}) did not answer in time; it is stopped")
            try:
                data = os.read(fd, 1 << 20)
            except BlockingIOError:  # gevent sets pipes non-blocking
                continue
            if not data:
                raise self._ended()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _ended(self) -> EngineError:
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return EngineError("the load engine closed its output")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return EngineError(f"the load engine (pid {self.pid}) {how} in the middle of its work\n{self._said()}".rstrip())

    def _said(self) -> str:
        return self._path("stderr").read_text(encoding="utf-8", errors="replace")[-2000:].strip()

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / name

    def _clean(self) -> None:
        self._errors.close()
        self._folder.cleanup()
