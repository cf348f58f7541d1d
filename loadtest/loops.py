"""The two request loops of the engine, closed and open, over any kind of `Connection`.

Times are time.monotonic_ns() (CLOCK_MONOTONIC). A loop is bounded in requests (`num_requests`), in the time of each
one (`timeout_ns`, from its scheduled moment) and as a whole (`deadline_ns` after its start). Where everything is due at once,
waiting is the load: a request has its time from being sent, and may wait until the deadline.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.connection import STATUS_TIMEOUT, Connection
from loadtest.timer import LagMeter, Timer

NO_ANSWER = -1
_LEAD_NS = 5_000_000  # between the end of the preparations and the first scheduled moment
_SWEEP_S = 0.025  # how often timeouts are looked for
# An idle core takes tens of microseconds to wake: the open loop wakes this much early and watches the clock until the moment,
# for at most a tenth of its time.
_MAX_LEAD_NS = 150_000
_LEAD_FRACTION = 0.1
NUM_COLUMNS = 8
Clock = Callable[[], int]
Column = Any  # array("q") or a memoryview of int64, which have no common type


def zeros(num: int) -> array[int]:
    """`num` int64 zeros."""
    return array("q", bytes(8 * num))


@dataclass(kw_only=True)
class Answers:
    """Every distinct successful answer to each payload, numbered; what it means is judged outside the window.

    Where nothing is `judged` all answers are one, and none is kept: a server whose every answer differs would fill the memory.
    """

    known: list[dict[bytes, int]]
    judged: bool = True
    num: int = 0
    new: list[tuple[int, int, bytes]] = field(default_factory=list)  # number, payload, body

    def number(self, payload: int, body: bytes) -> int:
        """The number of this answer to this payload; a new one where it was never seen."""
        if not self.judged:
            payload, body = 0, b""
        known = self.known[payload]
        found = known.get(body)
        if found is None:
            found = known[body] = self.num
            self.num += 1
            self.new.append((found, payload, body))
        return found


@dataclass(frozen=True, kw_only=True)
class Limit:
    """When to stop early: more than `max_over` requests that failed or took longer than `slo_ns`."""

    slo_ns: int
    max_over: int


class Window:
    """One stretch of requests. Columns are int64, with one place for each request, in order of issue.

    `columns` is where they lie, zeroed (the engine gives a file's memory, so that rows outlive the process): scheduled,
    sent, done, wait, status, payload, answer, bytes_in, each `len(payloads)` long.
    """

    def __init__(
        self,
        *,
        payloads: Sequence[int],
        answers: Answers,
        connections: list[Connection],
        timeout_ns: int,
        deadline_ns: int,
        columns: Sequence[Column] | None = None,
        limit: Limit | None = None,
    ) -> None:
        self.num_requests = num = len(payloads)
        self.answers, self.connections = answers, connections
        self.timeout_ns, self.deadline_ns = timeout_ns, deadline_ns
        columns = columns or [zeros(num) for _ in range(NUM_COLUMNS)]
        self.scheduled, self.sent, self.done, self.wait, self.status, self.payloads, self.answer, self.bytes_in = columns
        self.payloads[:] = array("q", payloads)
        self.answer[:] = array("q", [NO_ANSWER]) * num
        self.limit = limit
        self.num_over = 0
        self.issued = 0
        self.finished = 0
        self.start_ns = 0
        self.spun_ns = 0
        self.lags_ns: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._clock: Clock = time.monotonic_ns

    async def run(self, start_ns: int | None = None) -> None:
        """Run to the end, from `start_ns` on (CLOCK_MONOTONIC) or at once.

        An exception in a callback ends the window with that exception.
        """
        self._loop.set_exception_handler(self._broken)
        for connection in self.connections:
            connection.on_done = self.on_done
        self.start_ns = start_ns or self._clock() + _LEAD_NS
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        self.begin()
        try:
            await self._over
        finally:
            self.end()
            self._sweeper.cancel()
            self._loop.set_exception_handler(None)

    def begin(self) -> None:
        """Arrange for the first requests."""
        raise NotImplementedError

    def end(self) -> None:
        """Undo what `begin` arranged."""

    def after(self, connection: Connection, now: int) -> None:
        """`connection` is free again."""
        raise NotImplementedError

    def on_done(self, connection: Connection, status: int, body: bytes) -> None:
        """A request ended."""
        now = self._clock()
        row = connection.row
        # When the answer came here, which is not when we were woken to read it; a clock that was set is not believed.
        self.done[row] = connection.arrived_ns if self.sent[row] <= connection.arrived_ns <= now else now
        self.status[row] = status
        if status == 0 or 200 <= status < 300:
            self.bytes_in[row] = len(body)
            self.answer[row] = self.answers.number(self.payloads[row], body)
        self.finished += 1
        if self.limit is not None:
            self._count(row)
        self.after(connection, now)

    def over(self) -> None:
        """Nothing is left to wait for."""
        if not self._over.done():
            self._over.set_result(None)

    def give(self, connection: Connection, row: int) -> None:
        """Hand one request to a free connection."""
        self.sent[row] = self._clock()
        connection.submit(row, self.payloads[row])

    def _count(self, row: int) -> None:
        assert self.limit is not None
        if self.answer[row] == NO_ANSWER or self.done[row] - self.scheduled[row] > self.limit.slo_ns:
            self.num_over += 1
            if self.num_over > self.limit.max_over:
                self.num_requests = self.issued  # what is in flight still ends

    def _sweep(self) -> None:
        now = self._clock()
        for connection in self.connections:
            if connection.busy and now - self.since(connection.row) > self.timeout_ns:
                connection.cancel()
                self.on_done(connection, STATUS_TIMEOUT, b"")
        self.sweep_waiting(now)
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    def since(self, row: int) -> int:
        """From when a request has its time."""
        moment: int = self.scheduled[row]
        return moment

    def sweep_waiting(self, now: int) -> None:
        """Time out what has not even been sent."""

    def _broken(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if not self._over.done():
            self._over.set_exception(error if isinstance(error, Exception) else RuntimeError(str(context.get("message"))))


class ClosedWindow(Window):
    """N connections, each sending the next request as soon as its answer is there; scheduled is that moment."""

    def begin(self) -> None:
        """Start one request on every connection."""
        self._meter = LagMeter(self._loop)
        self.start_ns = self._clock()
        for connection in self.connections:
            self._next(connection, self._clock())

    def end(self) -> None:
        """Stop the lag meter."""
        self._meter.close()
        self.lags_ns = self._meter.lags_ns

    def after(self, connection: Connection, now: int) -> None:
        """Send the next one."""
        self._next(connection, now)

    def _next(self, connection: Connection, now: int) -> None:
        if self.issued < self.num_requests and now - self.start_ns < self.deadline_ns:
            row = self.issued
            self.issued += 1
            self.scheduled[row] = now
            self.give(connection, row)
        elif self.finished == self.issued:
            self.over()


class OpenWindow(Window):
    """Requests leave at their scheduled moments whatever the server does; what finds no free connection waits."""

    def __init__(self, *, offsets_ns: Sequence[int], at_once: bool = False, **rest: object) -> None:
        super().__init__(**rest)  # type: ignore[arg-type]
        self.offsets_ns, self.at_once = offsets_ns, at_once
        # The connection used last is used first: as few as the load needs are warm, the rest is reserve. Those that
        # could not be opened come last.
        self._free = sorted(self.connections, key=lambda connection: connection.is_open)
        self._waiting: deque[tuple[int, int]] = deque()

    def begin(self) -> None:
        """Arm the timer for the first request."""
        self._timer = Timer(self._loop, self._due)
        self.lead_ns = min(_MAX_LEAD_NS, round(_LEAD_FRACTION * self.offsets_ns[-1] / self.num_requests))
        self._timer.arm(self.start_ns + self.offsets_ns[0] - self.lead_ns)

    def end(self) -> None:
        """Stop the timer."""
        self._timer.close()

    def after(self, connection: Connection, now: int) -> None:
        """Serve who waits longest, or rest."""
        if self._waiting:
            row, since = self._waiting.popleft()
            self.wait[row] = now - since
            self.give(connection, row)
            return
        if connection.is_open:
            self._free.append(connection)
        else:  # one that must be opened first is taken last
            self._free.insert(0, connection)
        if self.finished == self.num_requests:
            self.over()

    def since(self, row: int) -> int:
        """From its moment, or from being sent."""
        moment: int = self.sent[row] if self.at_once else self.scheduled[row]
        return moment

    def sweep_waiting(self, now: int) -> None:
        """A request that never found a connection times out like any other."""
        patience_ns = self.deadline_ns if self.at_once else self.timeout_ns
        while self._waiting and now - self.scheduled[self._waiting[0][0]] > patience_ns:
            row, since = self._waiting.popleft()
            self.sent[row] = self.done[row] = now
            self.wait[row] = now - since
            self.status[row] = STATUS_TIMEOUT
            self.finished += 1
            if self.limit is not None:
                self._count(row)
        if self.finished == self.num_requests:
            self.over()

    def _due(self) -> None:
        now = self._clock()
        while self.issued < self.num_requests:
            moment = self.start_ns + self.offsets_ns[self.issued]
            if moment - self.lead_ns > now:
                self._timer.arm(moment - self.lead_ns)
                return
            woken = now
            while now < moment:
                now = self._clock()
            self.spun_ns += now - woken
            row = self.issued
            self.issued += 1
            self.scheduled[row] = moment
            if self._free:
                self.give(self._free.pop(), row)
            else:
                self._waiting.append((row, now))
            now = self._clock()
