"""TCP without a transport between: a write leaves at once, and what is read carries the kernel's time of its arrival.

uvloop's transports write when the loop turns next, after whatever else it has to do, and say nothing of when bytes came. Here
`write` is send(2), so that a moment taken before it is the moment of sending, and SO_TIMESTAMPNS (socket(7)) gives the moment
at which the last byte read reached this machine's socket, however late this process was woken to read it. Where the kernel
gives no such moment, it is the moment of reading.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol

_SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)  # CPython has no name for it
_TIMESPEC = struct.Struct("qq")
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size)
_READ = 1 << 16


class Wire(Protocol):
    """What a stream tells of its connection."""

    transport: Stream

    def data_received(self, data: bytes) -> None:
        """Bytes came; `transport.arrived_ns` says when."""

    def connection_lost(self, error: OSError | None) -> None:
        """It ended, by whomever; called once, never from inside `write` or `close`."""


class Stream:
    """One connected socket. `arrived_ns`: when the bytes last read came (CLOCK_MONOTONIC)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, wire: Wire) -> None:
        self._loop, self._sock, self._wire = loop, sock, wire
        self._unsent = memoryview(b"")
        self._open = True
        self.arrived_ns = 0
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        wire.transport = self
        loop.add_reader(sock.fileno(), self._readable)

    def write(self, data: bytes | memoryview) -> None:
        """Send now what the kernel takes, the rest as soon as it takes it."""
        if not self._open:
            return
        if self._unsent:
            self._unsent = memoryview(bytes(self._unsent) + data)
            return
        try:
            num = self._sock.send(data)
        except BlockingIOError:
            num = 0
        except OSError as error:
            self._end(error)
            return
        if num < len(data):
            self._unsent = memoryview(data)[num:]
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def close(self) -> None:
        """End the connection now; what is not sent is dropped."""
        self._end(None)

    def _writable(self) -> None:
        unsent, self._unsent = self._unsent, memoryview(b"")
        self._loop.remove_writer(self._sock.fileno())
        self.write(unsent)

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ, _ANCILLARY)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if not data:
            self._end(None)
            return
        # Both clocks are slewed alike, so the age of the bytes by one is their age by the other.
        now = time.time_ns()
        age = 0
        if ancillary:
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            age = now - seconds * 1_000_000_000 - nanoseconds
        self.arrived_ns = time.monotonic_ns() - age
        self._wire.data_received(data)

    def _end(self, error: OSError | None) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._loop.call_soon(self._wire.connection_lost, error)


async def connect(wire: Wire, host: str, port: int) -> Stream:
    """Connect to an address (not a name). Raises OSError."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return Stream(loop, sock, wire)


class Listener:
    """Takes connections on a free port of 127.0.0.1, each with a wire of its own."""

    def __init__(self, wire: Callable[[], Wire]) -> None:
        self._loop = asyncio.get_running_loop()
        self._wire = wire
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._sock.setblocking(False)
        self.port: int = self._sock.getsockname()[1]
        self._loop.add_reader(self._sock.fileno(), self._acceptable)

    def close(self) -> None:
        """Take no more; what is connected stays."""
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _acceptable(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:  # gone again
            return
        Stream(self._loop, sock, self._wire())
