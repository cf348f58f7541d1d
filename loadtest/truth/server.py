"""A server of known truth, in a process of its own on the servers' cores.

    with running(Behaviour(kind="fixed", service_ms=10), cores) as server:      # server.http, server.grpc: ports
        ...
        log = server.log()

A request's body begins with its number, in decimal digits; the right answer is `ok ` and that number. The log has one row a
request: its number, when it was read, when its answer was due, when it was written (0: never), all CLOCK_MONOTONIC ns.

`python -m loadtest.truth.server BEHAVIOUR CORES` (JSON, JSON) prints its ports and serves until stdin ends. A line on
stdin, the name of a file, has the log written there.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faceoff import helper, processes
from faceoff.cores import CoreSplit
from faceoff.errors import FaceoffError
from loadtest.stream import Listener
from loadtest.timer import Timer
from loadtest.truth.behaviours import STRIKE_EVERY, STRIKES, Behaviour, Ints, Model
from loadtest.truth.wires import Asked, GrpcServerWire, HttpServerWire

LOG_COLUMNS = ("number", "came", "due", "out")


@dataclass(frozen=True, kw_only=True)
class Log:
    """What the server did, in the order in which requests came. `epoch_ns` is where its stalls are counted from."""

    number: Ints
    came: Ints
    due: Ints
    out: Ints
    epoch_ns: int


class Server:
    """A running one, as its parent sees it."""

    def __init__(self, process: subprocess.Popen[str], said: dict[str, int]) -> None:
        self._process = process
        self.http, self.grpc, self.pid = said["http"], said["grpc"], process.pid
        self._epoch_ns = said["epoch_ns"]

    def log(self) -> Log:
        """Every request so far."""
        import numpy as np

        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory(prefix="faceoff-truth-") as folder:
            path = Path(folder) / "log"
            self._process.stdin.write(f"{path}\n")
            self._process.stdin.flush()
            if not self._process.stdout.readline():
                raise FaceoffError(f"the server of known truth (pid {self.pid}) ended in the middle of its work")
            table = np.fromfile(path, dtype=np.int64).reshape(len(LOG_COLUMNS), -1)
        return Log(**dict(zip(LOG_COLUMNS, table, strict=True)), epoch_ns=self._epoch_ns)


@contextlib.contextmanager
def running(behaviour: Behaviour, cores: CoreSplit) -> Iterator[Server]:
    """Start one on free ports; it is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.truth.server", json.dumps(behaviour.to_dict()), json.dumps(list(cores.servers))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=processes.environment(),
        preexec_fn=processes.die_with_parent,  # noqa: PLW1509  no thread of ours runs
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise FaceoffError("the server of known truth did not start; its messages are above")
        yield Server(process, json.loads(line))
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


class _Served:
    """The requests of one server."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.epoch_ns = time.monotonic_ns()
        self._kind = behaviour.kind
        self._model = Model(behaviour, self.epoch_ns)
        self._log = {name: array("q") for name in LOG_COLUMNS}
        self._heap: list[tuple[int, int, Asked]] = []
        self._timer = Timer(asyncio.get_running_loop(), self._ring)

    def null(self, asked: Asked) -> None:
        """Answer at once and remember nothing."""
        asked.answer(b"ok")

    def take(self, asked: Asked) -> None:
        """Note it and have its answer wait for its moment."""
        now = time.monotonic_ns()
        row = len(self._log["number"])
        due = self._model.due(now)
        for name, value in zip(LOG_COLUMNS, (_number(asked.body), now, due, 0), strict=True):
            self._log[name].append(value)
        heapq.heappush(self._heap, (due, row, asked))
        if self._heap[0][1] == row:
            self._timer.arm(due)

    def _ring(self) -> None:
        while self._heap:
            due, row, asked = self._heap[0]
            now = time.monotonic_ns()
            if due > now:
                self._timer.arm(due)
                return
            heapq.heappop(self._heap)
            self._answer(row, asked)

    def _answer(self, row: int, asked: Asked) -> None:
        number = self._log["number"][row]
        if self._kind in STRIKES and row % STRIKE_EVERY == STRIKE_EVERY - 1:
            if self._kind == "closes":
                asked.close()
            elif self._kind == "wrong":
                self._log["out"][row] = time.monotonic_ns()
                asked.answer(b"no")
            return
        body = b"ok %d" % number
        self._log["out"][row] = time.monotonic_ns()  # the write is a send(2) of that moment
        asked.answer(body)

    def write(self, path: Path) -> None:
        """Write the log as columns."""
        with path.open("wb") as file:
            for name in LOG_COLUMNS:
                self._log[name].tofile(file)


def _number(body: bytes) -> int:
    digits = body.split(None, 1)[0] if body else b""
    return int(digits) if digits.isdigit() else -1


async def _serve(behaviour: Behaviour) -> None:
    import gc

    loop = asyncio.get_running_loop()
    served = _Served(behaviour)
    take = served.null if behaviour.kind == "null" else served.take
    ports = {"http": Listener(lambda: HttpServerWire(take)).port, "grpc": Listener(lambda: GrpcServerWire(take)).port}
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    gc.collect()
    gc.freeze()
    gc.disable()
    _say({**ports, "epoch_ns": served.epoch_ns})
    while line := await commands.readline():
        served.write(Path(line.decode().rstrip("\n")))
        _say({"written": True})


def _say(data: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    """Serve until stdin ends."""
    helper.check("loadtest.truth.server", __doc__, argv, "BEHAVIOUR", "CORES")
    helper.need_pipe("loadtest.truth.server")
    import uvloop

    os.sched_setaffinity(0, json.loads(argv[1]))
    uvloop.run(_serve(Behaviour(**json.loads(argv[0]))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
