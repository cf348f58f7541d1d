"""loadtest.http_connection against a server that sends what the test says, byte for byte."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from loadtest import http_connection
from loadtest.connection import STATUS_CONNECTION, Route

Reply = list[bytes | None]  # pieces sent one after the other; None closes the connection
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def talk(replies: list[Reply], *, keep_alive: bool = True) -> tuple[list[tuple[int, bytes]], list[bytes], int]:
    """Send one request for each reply; returns (status, body) of each, what the server read, connections it saw."""

    async def main() -> tuple[list[tuple[int, bytes]], list[bytes], int]:
        read: list[bytes] = []
        left = iter(replies)
        writers: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            while True:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except (asyncio.IncompleteReadError, ConnectionError):
                    break
                read.append(head + await reader.readexactly(3))
                for piece in next(left):
                    if piece is None:
                        writer.close()
                        return
                    writer.write(piece)
                    await asyncio.sleep(0.001)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        route = Route(
            protocol="rest", host="127.0.0.1", port=port, path="/p", content_type="application/json", keep_alive=keep_alive
        )
        answers: list[tuple[int, bytes]] = []
        turn: list[asyncio.Future[None]] = []

        def done(connection: object, status: int, body: bytes) -> None:
            answers.append((status, body))
            turn[-1].set_result(None)

        connection = http_connection.HttpConnection(route, [http_connection.request(route, b"abc")], done, open_timeout_s=5)
        await connection.open()
        for row in range(len(replies)):
            turn.append(asyncio.get_running_loop().create_future())
            connection.submit(row, 0)
            await asyncio.wait_for(turn[-1], 10)
        connection.close()
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.01)
        return answers, read, len(writers)

    return uvloop.run(main())


def test_a_kept_connection_answers_in_order() -> None:
    answers, read, num_connections = talk([[OK], [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], [OK]])
    assert answers == [(200, b"hi"), (404, b""), (200, b"hi")]
    assert num_connections == 1
    head, body = read[0][:-3], read[0][-3:]
    assert head.startswith(b"POST /p HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Content-Length: 3\r\n" in head and b"Content-Type: application/json\r\n" in head
    assert body == b"abc"


@pytest.mark.parametrize(
    "reply",
    [
        [bytes([byte]) for byte in OK],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n", b"1\r\ni\r\n0\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
    ],
)
def test_an_answer_however_it_is_cut(reply: Reply) -> None:
    assert talk([reply, [OK]])[0] == [(200, b"hi"), (200, b"hi")]


def test_a_server_that_says_close_gets_a_new_connection() -> None:
    close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    answers, _, num_connections = talk([[close, None], [OK], [OK]])
    assert answers == [(200, b"hi")] * 3
    assert num_connections == 2


def test_without_keep_alive_each_request_has_a_connection_of_its_own() -> None:
    answers, read, num_connections = talk([[OK], [OK], [OK]], keep_alive=False)
    assert answers == [(200, b"hi")] * 3
    assert num_connections == 3
    assert all(b"Connection: close\r\n" in head for head in read)


@pytest.mark.parametrize(
    "reply", [[None], [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", None], [b"this is not HTTP\r\n\r\n"]]
)
def test_no_answer_is_a_failed_connection_and_the_next_request_opens_another(reply: Reply) -> None:
    answers, _, num_connections = talk([reply, [OK]])
    assert answers == [(STATUS_CONNECTION, b""), (200, b"hi")]
    assert num_connections == 2


def test_ipv6_hosts_are_bracketed() -> None:
    route = Route(protocol="rest", host="::1", port=1, path="/", content_type="x")
    assert b"Host: [::1]:1\r\n" in http_connection.request(route, b"")
