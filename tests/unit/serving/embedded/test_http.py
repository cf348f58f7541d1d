from __future__ import annotations

import gzip
import inspect
from typing import Any

import pytest

from serving.embedded.http import MAX_WAITING, Connection, Connections, Exchange
from serving.embedded.http_answer import html_page
from serving.embedded.http_request import gunzip


class Transport:
    """What asyncio would give; keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.paused = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


class Client:
    def __init__(self, *, answer_now: bool = True) -> None:
        self.seen: list[Exchange] = []
        self.transport = Transport()
        self.connections = Connections()

        def handle(exchange: Exchange) -> None:
            self.seen.append(exchange)
            if answer_now:
                exchange.respond(200, [("Content-Type", "application/json")], exchange.body or b"{}")

        self.connection = Connection(handle, self.connections)
        self.connection.connection_made(self.transport)

    def send(self, data: bytes) -> bytes:
        self.transport.written = b""
        self.connection.data_received(data)
        return self.transport.written


def request(body: bytes = b"abc", *headers: str, method: str = "POST", path: str = "/v1/x", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_an_answer_has_libevents_headers_and_keeps_the_connection() -> None:
    client = Client()
    head, _, body = client.send(request()).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert [line.partition(":")[0] for line in lines[1:]] == ["Content-Type", "Date", "Content-Length"]
    assert body == b"abc"
    assert not client.transport.closed


def test_close_is_obeyed_and_echoed() -> None:
    client = Client()
    assert b"Connection: close\r\n" in client.send(request(b"", "Connection: close"))
    assert client.transport.closed


def test_http_1_0_closes_unless_asked_to_stay() -> None:
    client = Client()
    answer = client.send(request(version="1.0"))
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Date" not in answer
    assert b"Content-Length" not in answer
    assert client.transport.closed
    client = Client()
    assert b"Connection: keep-alive" in client.send(request(b"a", "Connection: keep-alive", version="1.0"))
    assert not client.transport.closed


def test_head_has_neither_body_nor_length() -> None:
    answer = Client().send(request(b"", method="HEAD"))
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in answer


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (request(method="FOO"), 501),
        (request(method="post"), 501),
        (request(b"", method="TRACE"), 501),
        (request(method="PROPFIND"), 501),
        (request(path="/a b"), 400),
        (request(version="2.0"), 400),
        (request(path="v1/models/a"), 404),
        (b"POST /v1 HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /v1 HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 501),
    ],
)
def test_what_is_no_request_gets_libevents_page_and_a_close(wire: bytes, status: int) -> None:
    client = Client()
    answer = client.send(wire)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert client.transport.closed
    assert client.seen == []
    assert b"<HTML>" in answer


def test_requests_may_come_in_pieces_and_together() -> None:
    client = Client()
    wire = request(b"first") + request(b"second")
    out = b"".join(client.send(wire[at : at + 1]) for at in range(len(wire)))
    assert out.count(b"HTTP/1.1 200") == 2
    out = client.send(wire)
    assert out.index(b"first") < out.index(b"second")


def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    client = Client(answer_now=False)
    assert client.send(request(b"1") + request(b"2")) == b""
    assert len(client.seen) == 1
    client.seen[0].respond(200, [], b"one")
    client.seen[1].respond(200, [], b"two")
    client.seen[1].respond(500, [], b"too late")
    assert client.transport.written.count(b"HTTP/1.1 200") == 2
    assert b"late" not in client.transport.written


def test_many_pipelined_requests_are_answered_without_recursion_and_read_ahead_within_bounds() -> None:
    client = Client(answer_now=False)
    client.send(request(b"held") + request(b"quick", path="/v1/quick") * MAX_WAITING)
    assert not client.transport.paused
    client.send(request(b"quick", path="/v1/quick") * 2000)
    assert client.transport.paused
    (held,) = client.seen

    def handle(exchange: Exchange) -> None:
        assert len(inspect.stack(0)) < depth + 20
        exchange.respond(200, [], exchange.body)

    client.connection._handler = handle
    depth = len(inspect.stack(0))
    held.respond(200, [], held.body)
    assert client.transport.written.count(b"quick") == MAX_WAITING + 2000
    assert not client.transport.paused
    client.connection._handler = client.seen.append
    client.send(request(b"last"))
    assert client.seen[-1].body == b"last"


def test_a_refusal_waits_for_the_answers_before_it() -> None:
    client = Client(answer_now=False)
    client.send(request(b"1"))
    client.send(b"garbage\r\n\r\n")
    assert client.transport.written == b""
    client.seen[0].respond(200, [], b"one")
    assert client.transport.written.index(b"200 OK") < client.transport.written.index(b"<HTML>")
    assert client.transport.closed


def test_chunked_bodies_and_absolute_targets() -> None:
    client = Client()
    client.send(b"POST http://h:1/v1/a?b=c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert (client.seen[0].path, client.seen[0].body) == ("/v1/a?b=c", b"abcde")


def test_gzip_is_inflated_and_bad_gzip_is_an_empty_body() -> None:
    client = Client()
    client.send(request(gzip.compress(b"plain"), "Content-Encoding: gzip"))
    client.send(request(b"not gzip", "Content-Encoding: gzip"))
    client.send(request(b"kept", "Content-Encoding: deflate"))
    assert [exchange.body for exchange in client.seen] == [b"plain", b"", b"kept"]
    assert gunzip(gzip.compress(b"x" * 100)[:-4]) == b""


@pytest.mark.parametrize("coding", ["x-gzip", "gzip, identity"])
def test_gzip_may_stand_anywhere_in_the_content_encoding(coding: str) -> None:
    client = Client()
    client.send(request(gzip.compress(b"plain"), f"Content-Encoding: {coding}"))
    client.send(request(b"kept", f"Content-Encoding: {coding.upper()}"))
    assert [exchange.body for exchange in client.seen] == [b"plain", b"kept"]


def test_continue_is_sent_only_to_a_client_that_waits() -> None:
    client = Client()
    assert client.send(request(b"", "Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: 3")) == (
        b"HTTP/1.1 100 Continue\r\n\r\n"
    )
    assert b"200 OK" in client.send(b"abc")
    assert b"100 Continue" not in client.send(request(b"abc", "Expect: 100-continue"))


def test_a_handler_that_breaks_is_no_stack_trace_and_no_silence() -> None:
    def handle(exchange: Exchange) -> Any:
        raise RuntimeError("secret")

    connection, transport = Connection(handle, Connections()), Transport()
    connection.connection_made(transport)
    connection.data_received(request())
    assert transport.written.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in transport.written


def test_a_client_that_leaves_is_forgotten() -> None:
    client = Client(answer_now=False)
    client.send(request())
    client.connection.connection_lost(None)
    client.seen[0].respond(200, [], b"")
    assert not client.connections.open
    assert html_page(404).startswith(b"<HTML><HEAD>\n<TITLE>404 Not Found")


def test_an_offer_of_another_protocol_is_not_taken_up() -> None:
    client = Client()
    offer = request(b"", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", method="GET").replace(
        b"Content-Length: 0\r\n", b""
    )
    assert client.send(offer + request(b"next")).count(b"HTTP/1.1 200 OK") == 2
    assert client.seen[1].body == b"next"
    assert client.send(request(b"again")).startswith(b"HTTP/1.1 200 OK")


CHUNKED = b"POST /v1/x HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize(
    "offer",
    [
        request(b"abc", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA", "X: \xe9"),
        request(b"abc", "Upgrade: websocket", "Connection: Upgrade", method="GET"),
        CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
    ],
)
def test_an_offer_of_another_protocol_costs_no_body(offer: bytes, size: int) -> None:
    client = Client()
    wire = offer + request(b"next") + offer + request(b"last")
    out = b"".join(client.send(wire[at : at + size]) for at in range(0, len(wire), size))
    assert out.count(b"HTTP/1.1 200 OK") == 4
    assert [exchange.body for exchange in client.seen] == [b"abc", b"next", b"abc", b"last"]
    assert {exchange.path for exchange in client.seen} == {"/v1/x"}


def test_an_offer_may_wait_for_the_go_ahead_and_may_be_refused() -> None:
    client = Client()
    offer = request(b"abc", "Connection: Upgrade", "Upgrade: h2c", "Expect: 100-continue")
    assert client.send(offer[:-3]) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert client.send(b"abc").endswith(b"abc")
    refused = request(b"abc", "Connection: Upgrade", "Upgrade: h2c", method="CONNECT", path="h:1")
    assert client.send(refused).startswith(b"HTTP/1.1 501 ")
    assert client.transport.closed
