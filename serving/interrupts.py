"""When Ctrl-C, `kill` and a closed terminal have to wait, or come too late: around the starts and stops of servers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held() -> Iterator[None]:
    """Interrupts take effect when the block has ended: what it starts is on record before anybody cleans up.

    By the handlers, not by the thread's signal mask: the kernel gives a masked signal to another thread (BLAS has some), and
    Python runs its handler here all the same. A child begins with handlers and mask as they were.
    """
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in INTERRUPTS}
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def ignore_interrupts() -> None:
    """While servers are being stopped, a second Ctrl-C must not leave one running."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
