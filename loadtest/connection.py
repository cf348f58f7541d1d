"""What the engine knows of a connection: one request at a time, an answer or a reason why there is none."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

STATUS_CONNECTION = -1
STATUS_TIMEOUT = -2

OnDone = Callable[["Connection", int, bytes], None]


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where every request of an engine goes. `path` is the HTTP path or the full gRPC method.

    `keep_alive` False: a connection (a channel) for each request, opened inside the request's own time.
    """

    protocol: str
    host: str
    port: int
    path: str
    content_type: str
    keep_alive: bool = True


class Connection(ABC):
    """One kept connection. `row` is the request in flight while `busy`; `arrived_ns` when its answer was here, 0 unknown.

    A request given to a connection that the server has closed opens it again first, inside the request's
    own time: that is what a client of such a server pays.
    """

    def __init__(self, route: Route, payloads: Sequence[bytes], on_done: OnDone, *, open_timeout_s: float) -> None:
        self.route, self.payloads, self.on_done, self.open_timeout_s = route, payloads, on_done, open_timeout_s
        self.row = -1
        self.busy = False
        self.arrived_ns = 0
        self._reopening: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether a request can be written now."""

    @abstractmethod
    async def _open(self) -> None:
        """Connect and do what the protocol wants before its first request. Raises OSError."""

    @abstractmethod
    def _write(self, payload: int) -> None:
        """Write the request of `payload`; the answer comes through `finish`."""

    @abstractmethod
    def close(self) -> None:
        """Drop the connection now; nothing in flight is reported."""

    async def open(self) -> None:
        """Open it within the time limit. Raises OSError (TimeoutError is one)."""
        await asyncio.wait_for(self._open(), self.open_timeout_s)

    def submit(self, row: int, payload: int) -> None:
        """Send one request; `on_done` is called exactly once for it unless `cancel` comes first."""
        self.row, self.busy, self.arrived_ns = row, True, 0
        if self.is_open:
            self._write(payload)
        else:
            loop = asyncio.get_running_loop()
            self._reopening = loop.create_task(self._reopen(payload))
            self._reopening.add_done_callback(_raise_in_loop)

    def finish(self, status: int, body: bytes) -> None:
        """Report the request in flight, if there is one."""
        if self.busy:
            self.busy = False
            self.on_done(self, status, body)

    def cancel(self) -> None:
        """Give up the request in flight without a report; the connection with it, as its answer may still come."""
        self.busy = False
        if self._reopening is not None:
            self._reopening.cancel()
        self.close()

    async def _reopen(self, payload: int) -> None:
        try:
            await self.open()
        except OSError:
            self._reopening = None
            self.finish(STATUS_CONNECTION, b"")
        else:
            self._reopening = None
            self._write(payload)


def _raise_in_loop(task: asyncio.Task[None]) -> None:
    """A fault of ours in a task must end the window, not wait for the garbage collector, which is off."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "reopening a connection failed", "exception": error})
