"""HTTP framing: requests in, answers out, in the order they came, as libevent does it for TensorFlow Serving.

httptools (llhttp) splits the bytes; what it refuses gets libevent's HTML page. Pipelined requests are answered
one after another. Handlers are synchronous functions that answer now or later through `Exchange.respond`.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

import httptools

from serving.embedded.http_answer import Headers, answer, refusal

log = logging.getLogger(__name__)

METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"}  # others are not implemented, as in libevent
MAX_HEAD_BYTES = 1 << 20
MAX_BODY_BYTES = 1 << 30


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
        self._waiting: deque[Exchange] = deque()
        self._busy: Exchange | None = None
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
            self._refuse(_status_of_bad_head(self._head))
        current = self._current
        if current is not None and not self._refused and current.headers.get("expect", "").lower() == "100-continue":
            if current._size == 0 and self._transport is not None and not self._busy:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            current.headers.pop("expect")

    def _feed(self, data: bytes) -> None:
        """Parse; an offer to change protocols is not taken up, so what follows is HTTP again."""
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                self._parser = httptools.HttpRequestParser(self)
                data = data[offer.args[0] :]

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
        if exchange.method not in METHODS:
            self._refuse(501)
            return
        exchange.path = _path(self._url).decode("latin-1")
        exchange.body = exchange._parts[0] if len(exchange._parts) == 1 else b"".join(exchange._parts)
        exchange._parts.clear()
        if exchange.headers.get("content-encoding") == "gzip":
            exchange.body = gunzip(exchange.body)
        self._waiting.append(exchange)
        self._next()

    # -- answering -------------------------------------------------------------------------------------------------

    def _count_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD_BYTES:
            raise ValueError("head too large")

    def _next(self) -> None:
        while self._busy is None and self._waiting and self._transport is not None:
            self._busy = exchange = self._waiting.popleft()
            if len(self._waiting) > 16:
                self._transport.pause_reading()
            try:
                self._handler(exchange)
            except Exception:
                log.exception("A REST request failed")
                exchange.respond(500, [("Content-Type", "application/json")], b'{\n    "error": "Internal error"\n}')
        if self._refused and self._busy is None and not self._waiting:
            self._send_refusal()

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
            elif len(self._waiting) <= 16:
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


def _path(url: bytes) -> bytes:
    """The request target without scheme and host; the query is part of the path."""
    head, separator, rest = url.partition(b"://")
    if separator and b"/" not in head:
        slash = rest.find(b"/")
        return rest[slash:] if slash >= 0 else b"/"
    return url.partition(b"#")[0]


def _status_of_bad_head(head: bytes) -> int:
    """The page for what the parser refused: a target that is no path is 404, all else 400."""
    words = head.partition(b"\r\n")[0].split(b" ")
    if len(words) == 3 and words[2].startswith(b"HTTP/1.") and not words[1].startswith(b"/"):
        return 404
    return 400


def gunzip(body: bytes) -> bytes:
    """The inflated body; empty where it is not gzip or inflates beyond the limit."""
    try:
        inflater = zlib.decompressobj(wbits=31)
        plain = inflater.decompress(body, MAX_BODY_BYTES)
        return plain if inflater.eof else b""
    except zlib.error:
        return b""
