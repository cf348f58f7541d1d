"""Absolute timers on CLOCK_MONOTONIC, by timerfd (timerfd_create(2)).

libuv's and asyncio's own timers round to a millisecond; a timerfd in the loop's epoll set does not, and
costs nothing while it waits. CPython offers os.timerfd_create from 3.13 on; until then it is ctypes.
"""

from __future__ import annotations

import ctypes
import os
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable

_CLOCK_MONOTONIC = 1  # the clock of time.monotonic_ns
_TFD_TIMER_ABSTIME = 1
_TFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000


class _Itimerspec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


_libc = ctypes.CDLL(None, use_errno=True)


class Timer:
    """Calls `callback` in the loop once each time an armed moment has come."""

    def __init__(self, loop: AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop, self._callback = loop, callback
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _Itimerspec()
        self._reference = ctypes.byref(self._spec)
        loop.add_reader(self._fd, self._ready)

    def arm(self, moment_ns: int) -> None:
        """Fire once at `moment_ns` of time.monotonic_ns(); at once where that is past. Replaces what was armed."""
        # A value of zero would disarm the timer; no moment of a running system is zero.
        self._spec.value_s, self._spec.value_ns = divmod(max(1, moment_ns), 1_000_000_000)
        if _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._reference, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Take the timer out of the loop."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _ready(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # armed anew between the event and this call
            return
        self._callback()


class LagMeter:
    """How late the loop runs what is due: the delay that an answer waits before it is seen.

    It ticks every `PERIOD_NS`, often enough that the p99 of a window of 0.2 s is more than its one worst tick. A
    stall that swallows ticks counts once for each of them, so that a long one is not hidden by having happened once.
    """

    PERIOD_NS = 500_000

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.lags_ns: list[int] = []
        self._timer = Timer(loop, self._tick)
        self._due = time.monotonic_ns() + self.PERIOD_NS
        self._timer.arm(self._due)

    def _tick(self) -> None:
        now = time.monotonic_ns()
        while self._due <= now:
            self.lags_ns.append(now - self._due)
            self._due += self.PERIOD_NS
        self._timer.arm(self._due)

    def close(self) -> None:
        """Stop; `lags_ns` stays."""
        self._timer.close()
