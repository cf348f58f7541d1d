"""The engine process: sends requests on time, on a core of its own, and writes down what happened.

`python -m loadtest.engine` reads one JSON job a line from stdin and answers each with one JSON line on stdout, so that
connections and what the server has warmed up outlive a window. It knows bytes, not models.

    {"op": "setup", "protocol": "rest"|"grpc", "host", "port", "path", "content_type", "keep_alive": bool, "timeout_s",
     "payloads": FILE, "payload_sizes": [bytes, ...], "judged": bool, "cores": [core, ...], "watch_cores": [core, ...]}
    {"op": "window", "mode": "closed"|"open", "at_once": bool, "connections": N, "order": FILE, "offsets": FILE|null,
     "deadline_s", "rows": FILE, "answers": FILE, "limit": {"slo_ns", "max_over"}|null}

A window that is prepared answers `{"ok": true, "ready": true}` and begins when it has read one more line,
`{"start_ns": N|null}`: a moment that several engines share, or at once.

`order` and `offsets` are int64, one a request: which payload, and when (ns after the start). `rows` holds int64
columns, one after the other, in the order of `COLUMNS`, each with a place for every request of `order`; it is memory of
this process too (mmap), so that the rows of a process that is killed are there up to its last moment. `answers` holds the
bytes of the answers not seen before, which the reply lists as [number, payload, size]. A reply is `{"ok": true, ...}` or
`{"ok": false, "error": ...}`.

A window that outlives its deadline is ended by a watchdog (faulthandler, a thread of C): the process exits with a
traceback on stderr. The engine ends when stdin does, and dies with its parent.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import mmap
import os
import signal
import sys
from array import array
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from faceoff import helper
from loadtest import machine
from loadtest.connection import Connection, Route
from loadtest.loops import Answers, ClosedWindow, Limit, OpenWindow, Window

COLUMNS = ("scheduled", "sent", "done", "wait", "status", "payload", "answer", "bytes_in")
_OPENING_AT_ONCE = 16
_WATCHDOG_MARGIN_S = 5.0


class Engine:
    """Everything that lasts longer than one window."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.route = Route(**{name: job[name] for name in ("protocol", "host", "port", "path", "content_type", "keep_alive")})
        self.timeout_s = float(job["timeout_s"])
        self.watch_cores: list[int] = job["watch_cores"]
        bodies = _split(Path(job["payloads"]).read_bytes(), job["payload_sizes"])
        self.answers = Answers(known=[{} for _ in bodies], judged=job["judged"])
        self.connections: list[Connection] = []
        self.requests: list[bytes]
        if self.route.protocol == "grpc":
            from loadtest import grpc_connection

            self.requests = [grpc_connection.message(body) for body in bodies]
            self._kind: type[Connection] = grpc_connection.GrpcConnection
        else:
            from loadtest import http_connection

            self.requests = [http_connection.request(self.route, body) for body in bodies]
            self._kind = http_connection.HttpConnection

    async def window(self, job: dict[str, Any], go: Callable[[], Awaitable[int | None]]) -> dict[str, Any]:
        """Run one window; its rows are in the file as they happen. `go` says that all is ready, and when to begin."""
        deadline_s = float(job["deadline_s"])
        # Opening, the window itself, the timeouts of what is in flight at its end.
        limit_s = deadline_s + 2 * self.timeout_s + _WATCHDOG_MARGIN_S
        faulthandler.dump_traceback_later(limit_s, exit=True)
        try:
            await self._open(job["connections"])
            window = self._build(job, round(deadline_s * 1e9))
            gc.collect()
            gc.freeze()
            gc.disable()
            try:
                start_ns = await go()
                before = machine.read(self.watch_cores)
                await window.run(start_ns)
                after = machine.read(self.watch_cores)
            finally:
                gc.enable()
                gc.unfreeze()
        finally:
            faulthandler.cancel_dump_traceback_later()
        return self._record(job, window, before, after)

    async def _open(self, num: int) -> None:
        """Bring `num` connections up before the clock starts; one that cannot is opened by its first request."""
        while len(self.connections) < num:
            connection = self._kind(self.route, self.requests, _nobody, open_timeout_s=self.timeout_s)
            self.connections.append(connection)
        if not self.route.keep_alive:  # an open one would spare its first request what every other pays
            return
        closed = [connection for connection in self.connections[:num] if not connection.is_open]
        for at in range(0, len(closed), _OPENING_AT_ONCE):
            some = closed[at : at + _OPENING_AT_ONCE]
            await asyncio.gather(*(connection.open() for connection in some), return_exceptions=True)

    def _build(self, job: dict[str, Any], deadline_ns: int) -> Window:
        order = _read_array(job["order"])
        common: dict[str, Any] = {
            "payloads": order,
            "columns": _columns(Path(job["rows"]), len(order)),
            "limit": Limit(**job["limit"]) if job.get("limit") else None,
            "answers": self.answers,
            "connections": self.connections[: job["connections"]],
            "timeout_ns": round(self.timeout_s * 1e9),
            "deadline_ns": deadline_ns,
        }
        if job["mode"] == "closed":
            return ClosedWindow(**common)
        return OpenWindow(offsets_ns=_read_array(job["offsets"]), at_once=job["at_once"], **common)

    def _record(self, job: dict[str, Any], window: Window, before: machine.Reading, after: machine.Reading) -> dict[str, Any]:
        new, self.answers.new = self.answers.new, []
        Path(job["answers"]).write_bytes(b"".join(body for _, _, body in new))
        return {
            "num_rows": window.issued,
            "stopped_early": window.limit is not None and window.num_over > window.limit.max_over,
            "answers": [[number, payload, len(body)] for number, payload, body in new],
            "wall_ns": after.moment_ns - before.moment_ns,
            "cpu_ns": after.cpu_ns - before.cpu_ns,
            "run_queue_ns": after.run_queue_ns - before.run_queue_ns,
            "steal_ticks": after.steal_ticks - before.steal_ticks,
            "total_ticks": after.total_ticks - before.total_ticks,
            "loop_lag_p99_ns": _p99(window.lags_ns),
            "spun_ns": window.spun_ns,
        }


def _nobody(connection: Connection, status: int, body: bytes) -> None:
    """Nothing is in flight outside a window."""


def _p99(values: Sequence[int]) -> int | None:
    """Nearest rank; faceoff.stats needs numpy, which the engine does without."""
    ordered = sorted(values)
    return ordered[-(-99 * len(ordered) // 100) - 1] if ordered else None


def _split(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return parts


def _columns(path: Path, num: int) -> list[memoryview]:
    """One int64 view a column of the file `path`, made here with `num` places in each."""
    size = 8 * num
    with path.open("w+b") as file:
        file.truncate(len(COLUMNS) * size)
        if not num:
            raise ValueError("a window of no requests")
        memory = memoryview(mmap.mmap(file.fileno(), 0))
    memory[:] = bytes(len(memory))  # every page is there before the clock starts
    return [memory[at * size : (at + 1) * size].cast("q") for at in range(len(COLUMNS))]


def _read_array(path: str) -> array[int]:
    values = array("q")
    values.frombytes(Path(path).read_bytes())
    return values


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    jobs = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(jobs), sys.stdin)
    engine: Engine | None = None

    async def go() -> int | None:
        _reply({"ok": True, "ready": True})
        start_ns: int | None = json.loads(await jobs.readline())["start_ns"]
        return start_ns

    while line := await jobs.readline():
        job = json.loads(line)
        try:
            if job["op"] == "setup":
                os.sched_setaffinity(0, job["cores"])
                engine = Engine(job)
                reply: dict[str, Any] = {"cores": sorted(os.sched_getaffinity(0)), "pid": os.getpid()}
            else:
                assert engine is not None, "a window before setup"
                reply = await engine.window(job, go)
        except Exception as error:
            import traceback

            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        _reply({"ok": "error" not in reply, **reply})
    for connection in engine.connections if engine else []:
        connection.close()


def _reply(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Serve jobs until stdin ends."""
    helper.check("loadtest.engine", __doc__, sys.argv[1:])
    helper.need_pipe("loadtest.engine")
    import uvloop

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    uvloop.run(_serve())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
