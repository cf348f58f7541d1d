"""The server's side of HTTP/1.1 and of unary gRPC, as little of both as a null server needs; ours, so that it costs little.

A request goes to `take(asked)`, which calls `asked.answer(body)` or `asked.close()` once, now or later, or never.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

from loadtest.grpc_connection import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from loadtest.stream import Stream

_PREFACE_SIZE = 24
_HUGE = 2**31 - 1
_WINDOW = 65_535
# `:status` 200 is index 8 of the static table (RFC 7541, appendix A); content-type is name 31.
_HEADERS = b"\x88\x0f\x10\x10application/grpc"
_TRAILERS = b"\x00\x0bgrpc-status\x010"


class Asked(Protocol):
    """One request, waiting."""

    body: bytes

    @abstractmethod
    def answer(self, body: bytes) -> None:
        """Answer with success."""

    @abstractmethod
    def close(self) -> None:
        """Drop the connection without an answer."""


Take = Callable[[Asked], None]


class HttpServerWire:
    """One connection: itself the request in hand, as there is never more than one."""

    transport: Stream

    _lengths: dict[bytes, int] = {}  # noqa: RUF012  clients send few distinct heads

    def __init__(self, take: Take) -> None:
        self._take = take
        self._buffer = b""
        self._parts: list[bytes] = []  # of a request whose size is known, `_missing` bytes short
        self._missing = 0
        self.body = b""

    def connection_lost(self, error: OSError | None) -> None:
        """Nothing to tidy."""

    def data_received(self, data: bytes) -> None:
        """Take the request when it is whole."""
        if self._missing > 0:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data, self._parts = b"".join(self._parts), []
        elif self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self._buffer = data
            return
        head = data[:end]
        length = self._lengths.get(head)
        if length is None:
            length = self._lengths[head] = _content_length(head)
        if len(data) < end + length:
            self._buffer, self._parts, self._missing = b"", [data], end + length - len(data)
            return
        self.body, self._buffer = data[end : end + length], data[end + length :]
        self._take(self)

    def answer(self, body: bytes) -> None:
        """200 with a body."""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def close(self) -> None:
        """Drop it."""
        self.transport.close()


class _Stream:
    """One gRPC call."""

    def __init__(self, wire: GrpcServerWire, number: int) -> None:
        self._wire, self._number = wire, number
        self.body = b""

    def answer(self, body: bytes) -> None:
        """Status OK with one message."""
        message = b"\0" + len(body).to_bytes(4, "big") + body
        number = self._number
        self._wire.transport.write(
            frame(HEADERS, END_HEADERS, number, _HEADERS)
            + frame(DATA, 0, number, message)
            + frame(HEADERS, END_HEADERS | END_STREAM, number, _TRAILERS)
        )

    def close(self) -> None:
        """Drop the connection."""
        self._wire.transport.close()


class GrpcServerWire:
    """One connection; answers must fit in a frame (16 KiB), requests may be of any size."""

    transport: Stream

    def __init__(self, take: Take) -> None:
        self._take = take
        self._buffer = b""
        self._started = False
        self._pieces: list[bytes] = []  # of a frame whose size is known, `_missing` bytes short
        self._missing = 0
        self._parts: dict[int, list[bytes]] = {}
        self._received = 0

    def connection_lost(self, error: OSError | None) -> None:
        """Nothing to tidy."""

    def _greet(self) -> None:
        """Say our settings: windows that never close."""
        settings = (4).to_bytes(2, "big") + _HUGE.to_bytes(4, "big") + (5).to_bytes(2, "big") + (1 << 20).to_bytes(4, "big")
        grow = frame(WINDOW_UPDATE, 0, 0, (_HUGE - _WINDOW).to_bytes(4, "big"))
        self.transport.write(frame(SETTINGS, 0, 0, settings) + grow)

    def data_received(self, data: bytes) -> None:
        """Take whole frames."""
        if self._missing > 0:
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data, self._pieces = b"".join(self._pieces), []
        elif self._buffer:
            data = self._buffer + data
        self._buffer = b""
        at = 0
        if not self._started:
            if len(data) < _PREFACE_SIZE:
                self._buffer = data
                return
            at, self._started = _PREFACE_SIZE, True
            self._greet()
        end = len(data)
        while end - at >= 9:
            stop = at + 9 + int.from_bytes(data[at : at + 3], "big")
            if stop > end:
                self._pieces, self._missing = [data[at:]], stop - end
                return
            number = int.from_bytes(data[at + 5 : at + 9], "big") & _HUGE
            self._frame(data[at + 3], data[at + 4], number, data[at + 9 : stop])
            at = stop
        self._buffer = data[at:]

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == DATA:
            if flags & PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            parts = self._parts.setdefault(number, [])
            parts.append(payload)
            self._received += len(payload)
            if self._received > _HUGE // 2:
                self.transport.write(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
                self._received = 0
            if flags & END_STREAM:
                stream = _Stream(self, number)
                stream.body = b"".join(self._parts.pop(number))[5:]
                self._take(stream)
        elif kind == SETTINGS and not flags & ACK:
            self.transport.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.transport.write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.transport.close()
        else:
            assert kind in (HEADERS, CONTINUATION) or kind < 10  # what a client says of itself does not matter here


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0
