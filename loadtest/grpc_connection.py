"""Unary gRPC over HTTP/2 (RFC 9113), one stream at a time on each connection, messages as raw bytes.

grpc.aio costs several times the CPU of this, and its second thread shares the generator's only core, so that its
send error alone can break the guard. What is here is what a unary client needs: SETTINGS, PING, flow control both
ways, GOAWAY, RST_STREAM; no TLS, no compression.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from loadtest import stream
from loadtest.connection import STATUS_CONNECTION, Connection, OnDone, Route
from loadtest.header_block import HeaderBlockError, literal, statuses
from loadtest.stream import Stream

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20
UNKNOWN, INTERNAL, UNAVAILABLE = 2, 13, 14  # gRPC's codes for a stream that ends without one
_REFUSED_STREAM = 7
_LARGEST_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _setting(identifier: int, value: int) -> bytes:
    return identifier.to_bytes(2, "big") + value.to_bytes(4, "big")


# No dynamic table, no push, windows that never close, frames up to a megabyte.
_SETTINGS = frame(SETTINGS, 0, 0, _setting(1, 0) + _setting(2, 0) + _setting(4, _LARGEST_WINDOW) + _setting(5, 1 << 20))
_OPEN_WINDOW = frame(WINDOW_UPDATE, 0, 0, (_LARGEST_WINDOW - _DEFAULT_WINDOW).to_bytes(4, "big"))


def message(body: bytes) -> bytes:
    """A message as gRPC frames it: not compressed, its length, its bytes."""
    return b"\0" + len(body).to_bytes(4, "big") + body


class GrpcConnection(Connection):
    """One HTTP/2 connection; `payloads` are messages already framed by `message`."""

    def __init__(self, route: Route, payloads: Sequence[bytes], on_done: OnDone, *, open_timeout_s: float) -> None:
        super().__init__(route, payloads, on_done, open_timeout_s=open_timeout_s)
        self.wire: GrpcWire | None = None
        host = f"[{route.host}]" if ":" in route.host else route.host
        # Indexed: POST (3), http (6). Named by index: path (4), authority (1), content-type (31), user-agent (58).
        self.block = b"\x83\x86" + literal(4, route.path) + literal(1, f"{host}:{route.port}")
        self.block += literal(31, "application/grpc") + b"\x00\x02te\x08trailers" + literal(58, "faceoff-loadtest")

    @property
    def is_open(self) -> bool:
        """False once it was lost or the server said GOAWAY."""
        return self.wire is not None

    async def _open(self) -> None:
        wire = GrpcWire(self)
        await stream.connect(wire, self.route.host, self.route.port)
        try:
            wire.greet()
            await wire.ready  # both sides know each other's settings
        except BaseException:
            wire.transport.close()
            raise
        self.wire = wire

    def _write(self, payload: int) -> None:
        assert self.wire is not None
        self.wire.start(self.payloads[payload])

    def close(self) -> None:
        """Abort the connection."""
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.transport.close()

    def lost(self, wire: GrpcWire) -> None:
        """The TCP connection ended."""
        if wire is self.wire:
            self.wire = None
            self.finish(STATUS_CONNECTION, b"")

    def answered(self, wire: GrpcWire, status: int, body: bytes, *, keep: bool) -> None:
        """The stream ended."""
        if wire is not self.wire:
            return
        if not (keep and self.route.keep_alive):
            self.wire = None
            wire.transport.close()
        self.arrived_ns = wire.transport.arrived_ns
        self.finish(status, body)


class GrpcWire:
    """The frames of one connection. A late event of an old one reaches nobody."""

    transport: Stream

    def __init__(self, owner: GrpcConnection) -> None:
        self.owner = owner
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting_for = {"their settings", "their acknowledgement"}
        self._buffer = b""
        self._stream = -1  # the newest stream; odd numbers
        self._active = False
        self._goaway = False
        self._block = b""  # of a header block that goes on in CONTINUATION frames
        self._block_ends_stream = False
        self._http_status: int | None = None
        self._grpc_status: int | None = None
        self._parts: list[bytes] = []
        self._unsent = memoryview(b"")
        self._max_frame = 16_384
        self._initial_window = _DEFAULT_WINDOW
        self._stream_window = 0
        self._connection_window = _DEFAULT_WINDOW
        self._received = 0

    def greet(self) -> None:
        """Say the preface."""
        self.transport.write(_PREFACE + _SETTINGS + _OPEN_WINDOW)

    def connection_lost(self, error: OSError | None) -> None:
        """Tell the owner, or whoever waits for the opening."""
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionResetError("closed while opening"))
        self.owner.lost(self)

    def start(self, body: bytes) -> None:
        """Open the next stream and send the message, as far as the windows allow."""
        self._stream += 2
        self._active = True
        self._http_status = self._grpc_status = None
        self._parts.clear()
        head = frame(HEADERS, END_HEADERS, self._stream, self.owner.block)
        size = len(body)
        if size <= self._max_frame and size <= self._connection_window and size <= self._initial_window:
            self._connection_window -= size
            self._unsent = memoryview(b"")
            self.transport.write(head + frame(DATA, END_STREAM, self._stream, body))
            return
        self._stream_window = self._initial_window
        self._unsent = memoryview(body)
        self._send_more(head)

    def _send_more(self, head: bytes = b"") -> None:
        frames = [head]
        while self._unsent:
            size = min(len(self._unsent), self._max_frame, self._stream_window, self._connection_window)
            if size <= 0:
                break
            part, self._unsent = self._unsent[:size], self._unsent[size:]
            self._stream_window -= size
            self._connection_window -= size
            frames.append(frame(DATA, 0 if self._unsent else END_STREAM, self._stream, bytes(part)))
        self.transport.write(b"".join(frames))

    def data_received(self, data: bytes) -> None:
        """Take the whole frames out of what came; a broken one ends the connection."""
        if self._buffer:
            data = self._buffer + data
        at, end = 0, len(data)
        try:
            while end - at >= 9:
                stop = at + 9 + int.from_bytes(data[at : at + 3], "big")
                if stop > end:
                    break
                stream = int.from_bytes(data[at + 5 : at + 9], "big") & _LARGEST_WINDOW
                self._frame(data[at + 3], data[at + 4], stream, data[at + 9 : stop])
                at = stop
        except (HeaderBlockError, IndexError):
            self.transport.close()
            return
        self._buffer = data[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        ours = self._active and stream == self._stream
        if kind == DATA:
            self._replenish(len(payload))
            if ours:
                self._parts.append(_unpadded(payload, flags))
                if flags & END_STREAM:
                    self._end(None)
        elif kind in (HEADERS, CONTINUATION):
            self._headers(kind, flags, payload, ours=ours)
        elif kind == SETTINGS:
            self._settings(flags, payload)
        elif kind == WINDOW_UPDATE:
            self._window_update(stream, int.from_bytes(payload, "big") & _LARGEST_WINDOW)
        elif kind == PING and not flags & ACK:
            self.transport.write(frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM and ours:
            refused = int.from_bytes(payload, "big") == _REFUSED_STREAM
            self._end(UNAVAILABLE if refused else INTERNAL)
        elif kind == GOAWAY:
            self._goaway = True
            if not self._active:
                self.owner.lost(self)
                self.transport.close()

    def _headers(self, kind: int, flags: int, payload: bytes, *, ours: bool) -> None:
        if kind == HEADERS:
            payload = _unpadded(payload, flags)
            self._block = payload[5:] if flags & PRIORITY else payload
            self._block_ends_stream = bool(flags & END_STREAM)
        else:
            self._block += payload
        if not flags & END_HEADERS or not ours:
            return
        http, grpc = statuses(self._block)
        self._http_status = self._http_status if http is None else http
        self._grpc_status = self._grpc_status if grpc is None else grpc
        if self._block_ends_stream:
            self._end(None)

    def _end(self, status: int | None) -> None:
        """Report the stream; without a status of its own its trailers decide."""
        self._active = False
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if status is None:
            status = self._grpc_status
        if status is None:
            status = UNKNOWN if self._http_status != 200 else INTERNAL
        if status == 0 and (len(body) < 5 or body[0] != 0 or int.from_bytes(body[1:5], "big") != len(body) - 5):
            status = INTERNAL  # compressed, cut, or more than the one message of a unary call
        self.owner.answered(self, status, body[5:] if status == 0 else b"", keep=not self._goaway and not self._unsent)

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            self._settled("their acknowledgement")
            return
        for at in range(0, len(payload), 6):
            identifier, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if identifier == 4:
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif identifier == 5:
                self._max_frame = value
        self.transport.write(frame(SETTINGS, ACK, 0))
        self._settled("their settings")

    def _settled(self, what: str) -> None:
        self._waiting_for.discard(what)
        if not self._waiting_for and not self.ready.done():
            self.ready.set_result(None)

    def _window_update(self, stream: int, increment: int) -> None:
        if stream == 0:
            self._connection_window += increment
        elif stream == self._stream:
            self._stream_window += increment
        if self._unsent:
            self._send_more()

    def _replenish(self, size: int) -> None:
        # The stream's own window is never exhausted by one answer of less than 2 GiB.
        self._received += size
        if self._received > _LARGEST_WINDOW // 2:
            self.transport.write(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
            self._received = 0


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
