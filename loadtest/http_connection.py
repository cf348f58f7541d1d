"""HTTP/1.1 keep-alive over asyncio.Protocol; answers are parsed by httptools (llhttp)."""

from __future__ import annotations

from collections.abc import Sequence

import httptools

from loadtest import stream
from loadtest.connection import STATUS_CONNECTION, Connection, OnDone, Route
from loadtest.stream import Stream


class HttpConnection(Connection):
    """POSTs one pre-built request at a time."""

    def __init__(self, route: Route, payloads: Sequence[bytes], on_done: OnDone, *, open_timeout_s: float) -> None:
        super().__init__(route, payloads, on_done, open_timeout_s=open_timeout_s)
        self.wire: HttpWire | None = None

    @property
    def is_open(self) -> bool:
        """False once the server has closed it or has said that it will."""
        return self.wire is not None

    async def _open(self) -> None:
        wire = HttpWire(self)
        await stream.connect(wire, self.route.host, self.route.port)
        self.wire = wire

    def _write(self, payload: int) -> None:
        assert self.wire is not None
        self.wire.transport.write(self.payloads[payload])

    def close(self) -> None:
        """Abort: a half-read answer must not become the next request's."""
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.transport.close()

    def lost(self, wire: HttpWire) -> None:
        """The TCP connection ended."""
        if wire is self.wire:
            self.wire = None
            self.finish(STATUS_CONNECTION, b"")

    def answered(self, wire: HttpWire, status: int, body: bytes, *, keep: bool) -> None:
        """A whole answer came. One that nobody asked for ends the connection."""
        if wire is not self.wire:
            return
        if not (keep and self.route.keep_alive and self.busy):
            self.wire = None
            wire.transport.close()
        self.arrived_ns = wire.transport.arrived_ns
        self.finish(status, body)


class HttpWire:
    """Feeds the parser; its `on_...` methods are httptools' callbacks. A late event of an old one reaches nobody."""

    transport: Stream

    def __init__(self, owner: HttpConnection) -> None:
        self.owner = owner
        self.parser = httptools.HttpResponseParser(self)
        self.parts: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        """Parse; an answer that is not HTTP ends the connection."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def connection_lost(self, error: OSError | None) -> None:
        """Tell the owner."""
        self.owner.lost(self)

    def on_message_begin(self) -> None:
        """A new answer starts."""
        self.parts.clear()

    def on_body(self, body: bytes) -> None:
        """A piece of it."""
        self.parts.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole. An interim one (1xx) is not the answer."""
        status = self.parser.get_status_code()
        if status < 200:
            return
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.owner.answered(self, status, body, keep=self.parser.should_keep_alive())


def request(route: Route, body: bytes) -> bytes:
    """One whole HTTP/1.1 request."""
    host = f"[{route.host}]" if ":" in route.host else route.host
    last = "" if route.keep_alive else "Connection: close\r\n"
    head = (
        f"POST {route.path} HTTP/1.1\r\nHost: {host}:{route.port}\r\nContent-Type: {route.content_type}\r\n"
        f"Content-Length: {len(body)}\r\n{last}\r\n"
    )
    return head.encode("ascii") + body
