"""HTTP framing: requests in, answers out, in the order they came, as libevent does it for TensorFlow Serving.

httptools (llhttp) splits the bytes; what it refuses gets libevent's HTML page. Pipelined requests are answered
one after another. Handlers are synchronous functions that answer now or later through `Exchange.respond`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import httptools

from serving.embedded.http_answer import Headers, answer, refusal
from serving.embedded.http_request import MAX_BODY_BYTES, gunzip, head, status_of_bad_head, target

log = logging.getLogger(__name__)

METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"}  # others are not implemented, as in libevent
MAX_HEAD_BYTES = 1 << 20
MAX_WAITING = 16  # pipelined requests of a connection that are read ahead; more are left to the socket's buffers


class Exchange:
    """One request and the way to answer it, exactly once."""

    __slots__ = ("_answered", "_parts", "_protocol", "_size", "body", "headers", "http_1_0", "keep_alive", "method", "path")

    def __init__(self, protocol: Connection) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.http_1_0 = False
        self.keep_alive = True
        self._protocol = protocol
        self._answered = False
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def answered(self) -> bool:
        """Whether `respond` has been called."""
        return self._answered

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send the answer; a second call does nothing (the first one was a timeout)."""
        if not self._answered:
            self._answered = True
            self._protocol.send(self, status, headers, body)


Handler = Callable[[Exchange], None]


class Connections:
    """The open connections, so that a stop can wait for the answers under way."""

    def __init__(self) -> None:
        self.open: set[Connection] = set()
        self.stopping = False

    async def stop(self, grace_s: float) -> None:
        """Close idle connections, wait for the others at most `grace_s`, then close all."""
        self.stopping = True
        for connection in list(self.open):
            connection.close_if_idle()
        deadline = time.monotonic() + grace_s
        while self.open and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self.open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One client connection; also httptools' callback object."""

    def __init__(self, handler: Handler, connections: Connections) -> None:
        self._handler = handler
        self._connections = connections
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._current: Exchange | None = None
        self._url = b""
        self._head_size = 0
        self._head = b""
        self._offer: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._busy: Exchange | None = None
        self._handing_over = False
        self._paused = False
        self._refused = 0

    # -- asyncio ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        self._transport = transport
        self._connections.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._connections.open.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._refused or self._transport is None:
            return
        if self._current is None:
            self._head = data[:256]  # what a refusal is judged by
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            self._refuse(400)
        except httptools.HttpParserInvalidMethodError:
            self._refuse(501)
        except httptools.HttpParserError:
            self._refuse(status_of_bad_head(self._head))
        current = self._current
        if current is not None and not self._refused and current.headers.get("expect", "").lower() == "100-continue":
            if current._size == 0 and self._transport is not None and not self._busy:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            current.headers.pop("expect")

    def _feed(self, data: bytes) -> None:
        """Parse. An offer to change protocols is not taken up: its head is read once more without it, then what follows.

        llhttp ends a request at the head of an offer and leaves the body to the other protocol.
        """
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as end:
                version = self._parser.get_http_version()
                offer, self._offer = self._offer, None
                self._parser = httptools.HttpRequestParser(self)
                data = data[end.args[0] :]
                if offer is not None:
                    del offer.headers["upgrade"]
                    data = head(offer.method, self._url, version, offer.headers) + data

    # -- httptools -------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request starts."""
        self._current = Exchange(self)
        self._url = b""
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        """Part of the request target."""
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, also of a trailer."""
        assert self._current is not None
        self._current.headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """The head has ended."""
        assert self._current is not None
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise ValueError("HTTP version")
        self._current.http_1_0 = version == "1.0"
        connection = self._current.headers.get("connection", "").lower()
        self._current.keep_alive = connection == "keep-alive" if version == "1.0" else connection != "close"

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        assert self._current is not None
        self._current._parts.append(body)
        self._current._size += len(body)
        if self._current._size > MAX_BODY_BYTES:
            raise ValueError("body too large")

    def on_message_complete(self) -> None:
        """The request is whole."""
        exchange, self._current = self._current, None
        assert exchange is not None
        exchange.method = self._parser.get_method().decode()
        if "upgrade" in exchange.headers and self._parser.should_upgrade():
            self._offer = exchange
            return
        if exchange.method not in METHODS:
            self._refuse(501)
            return
        exchange.path = target(self._url).decode("latin-1")
        exchange.body = exchange._parts[0] if len(exchange._parts) == 1 else b"".join(exchange._parts)
        exchange._parts.clear()
        if "gzip" in exchange.headers.get("content-encoding", ""):  # anywhere in it, as in the real server
            exchange.body = gunzip(exchange.body)
        self._waiting.append(exchange)
        self._next()
        if len(self._waiting) > MAX_WAITING and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    # -- answering -------------------------------------------------------------------------------------------------

    def _count_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD_BYTES:
            raise ValueError("head too large")

    def _next(self) -> None:
        if self._handing_over:
            return  # a handler has answered at once, and the loop below goes on when it returns
        self._handing_over = True
        try:
            while self._busy is None and self._waiting and self._transport is not None:
                self._busy = exchange = self._waiting.popleft()
                self._hand_over(exchange)
        finally:
            self._handing_over = False
        if self._refused and self._busy is None and not self._waiting:
            self._send_refusal()

    def _hand_over(self, exchange: Exchange) -> None:
        try:
            self._handler(exchange)
        except Exception:
            log.exception("A REST request failed")
            exchange.respond(500, [("Content-Type", "application/json")], b'{\n    "error": "Internal error"\n}')

    def send(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        """Write one answer and go on with the next request."""
        if self._transport is not None:
            close = not exchange.keep_alive or (self._connections.stopping and not self._waiting)
            self._transport.write(
                answer(
                    exchange.method,
                    status,
                    headers,
                    body,
                    http_1_0=exchange.http_1_0,
                    keep_alive=exchange.keep_alive,
                    close=close,
                )
            )
            if close:
                self._transport.close()
                self._waiting.clear()
            elif self._paused and len(self._waiting) <= MAX_WAITING:
                self._paused = False
                self._transport.resume_reading()
        self._busy = None
        if self._waiting or self._refused:
            self._next()

    def _refuse(self, status: int) -> None:
        self._refused = status
        if self._busy is None and not self._waiting:
            self._send_refusal()

    def _send_refusal(self) -> None:
        if self._transport is not None:
            self._transport.write(refusal(self._refused))
            self._transport.close()

    def close_if_idle(self) -> None:
        """Close unless a request is being answered."""
        if self._busy is None and not self._waiting and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
