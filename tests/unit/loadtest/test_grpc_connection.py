"""loadtest.grpc_connection: against grpc.aio, and against frames written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest
import uvloop

from loadtest import grpc_connection as g
from loadtest.connection import STATUS_CONNECTION, Connection, Route

METHOD = "/a.Service/Method"
HEAD = b"\x88"
TRAILERS = b"\x00\x0bgrpc-status\x010"


async def exchange(port: int, bodies: list[bytes], *, keep_alive: bool = True) -> list[tuple[int, bytes]]:
    """One request after the other over one connection; (status, body) of each."""
    route = Route(protocol="grpc", host="127.0.0.1", port=port, path=METHOD, content_type="", keep_alive=keep_alive)
    answers: list[tuple[int, bytes]] = []
    turn = asyncio.Event()

    def done(connection: Connection, status: int, body: bytes) -> None:
        answers.append((status, body))
        turn.set()

    connection = g.GrpcConnection(route, [g.message(body) for body in bodies], done, open_timeout_s=5)
    await connection.open()
    for row in range(len(bodies)):
        turn.clear()
        connection.submit(row, row)
        await asyncio.wait_for(turn.wait(), 20)
    connection.close()
    await asyncio.sleep(0.01)
    return answers


def with_grpc(bodies: list[bytes], *, keep_alive: bool = True) -> list[tuple[int, bytes]]:
    """Talk to a real gRPC server: a message is answered with itself, `code N` with that code, `who` with the client's address."""

    async def echo(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if request.startswith(b"code "):
            code = next(c for c in grpc.StatusCode if c.value[0] == int(request[5:]))
            await context.abort(code, "as asked: é and a long explanation " * 20)
        return context.peer().encode() if request == b"who" else request

    async def main() -> list[tuple[int, bytes]]:
        handlers = {"Method": grpc.unary_unary_rpc_method_handler(echo)}
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Service", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return await exchange(port, bodies, keep_alive=keep_alive)
        finally:
            await server.stop(None)

    return asyncio.run(main())


def test_a_real_server() -> None:
    bodies = [b"", b"a", b"x" * 20_000, b"y" * 70_000, b"z" * 5_000_000, *(b"%d" % n for n in range(200))]
    assert with_grpc(bodies) == [(0, body) for body in bodies]


def test_codes_of_a_real_server() -> None:
    answers = with_grpc([b"code 14", b"fine", b"code 5", b"code 13", b"code 8"])
    assert answers == [(14, b""), (0, b"fine"), (5, b""), (13, b""), (8, b"")]


@pytest.mark.parametrize(("keep_alive", "num_channels"), [(True, 1), (False, 3)])
def test_without_keep_alive_each_call_has_a_channel_of_its_own(keep_alive: bool, num_channels: int) -> None:
    answers = with_grpc([b"who"] * 3, keep_alive=keep_alive)
    assert {status for status, _ in answers} == {0}
    assert len({address for _, address in answers}) == num_channels


def scripted(answer: Callable[[int], list[bytes]], num: int, *, close_after: bool = False) -> list[tuple[int, bytes]]:
    """Talk to a server that answers each stream with `answer(stream)`, written piece by piece."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(24)
            writer.write(g.frame(g.SETTINGS, 0, 0) + g.frame(g.SETTINGS, g.ACK, 0))
            while True:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == g.DATA and head[4] & g.END_STREAM:
                    for piece in answer(int.from_bytes(head[5:], "big")):
                        writer.write(piece)
                        await asyncio.sleep(0.001)
                    if close_after:
                        break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def main() -> list[tuple[int, bytes]]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            return await exchange(server.sockets[0].getsockname()[1], [b"q"] * num)
        finally:
            server.close()
            await asyncio.sleep(0.01)

    return uvloop.run(main())


def usual(stream: int) -> list[bytes]:
    return [
        g.frame(g.HEADERS, g.END_HEADERS, stream, HEAD)
        + g.frame(g.DATA, 0, stream, g.message(b"hi"))
        + g.frame(g.HEADERS, g.END_HEADERS | g.END_STREAM, stream, TRAILERS)
    ]


@pytest.mark.parametrize(
    "answer",
    [
        usual,
        lambda s: [bytes([byte]) for byte in usual(s)[0]],
        lambda s: [
            g.frame(g.HEADERS, g.END_HEADERS | g.PADDED | g.PRIORITY, s, b"\x02" + bytes(5) + HEAD + b"\0\0"),
            g.frame(g.PING, 0, 0, b"12345678") + g.frame(g.DATA, g.PADDED, s, b"\x01" + g.message(b"hi")[:6] + b"\0"),
            g.frame(g.DATA, 0, s, b"i") + g.frame(g.HEADERS, g.END_STREAM, s, TRAILERS[:4]),
            g.frame(g.CONTINUATION, g.END_HEADERS, s, TRAILERS[4:]) + g.frame(99, 0, s, b"unknown"),
        ],
    ],
)
def test_frames_however_they_are_cut(answer: Callable[[int], list[bytes]]) -> None:
    assert scripted(answer, 3) == [(0, b"hi")] * 3


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda s: [g.frame(g.RST_STREAM, 0, s, b"\0\0\0\x07")], 14),
        (lambda s: [g.frame(g.RST_STREAM, 0, s, b"\0\0\0\x02")], 13),
        (lambda s: [g.frame(g.HEADERS, 5, s, HEAD + b"\x00\x0bgrpc-status\x0212")], 12),
        (lambda s: [g.frame(g.HEADERS, 5, s, b"\x8d")], 2),  # HTTP 404 from what is no gRPC server
        (lambda s: [g.frame(g.HEADERS, 5, s, HEAD)], 13),
        (lambda s: [g.frame(g.HEADERS, 5, s, HEAD + TRAILERS)], 13),  # success without a message
        (
            lambda s: [
                g.frame(g.HEADERS, 4, s, HEAD) + g.frame(g.DATA, 0, s, b"\x01" + g.message(b"hi")[1:]) + usual(s)[0][-24:]
            ],
            13,
        ),
    ],
)
def test_ends_without_success(answer: Callable[[int], list[bytes]], status: int) -> None:
    assert scripted(answer, 2) == [(status, b"")] * 2


def test_goaway_lets_the_stream_end_and_opens_another_connection() -> None:
    away = g.frame(g.GOAWAY, 0, 0, bytes(8))
    assert scripted(lambda s: [away + usual(s)[0]], 3) == [(0, b"hi")] * 3


@pytest.mark.parametrize("answer", [lambda s: [], lambda s: [usual(s)[0][:20]]])
def test_a_closed_connection(answer: Callable[[int], list[bytes]]) -> None:
    assert scripted(answer, 2, close_after=True) == [(STATUS_CONNECTION, b"")] * 2


def test_a_header_block_of_a_dynamic_table_ends_the_connection() -> None:
    assert scripted(lambda s: [g.frame(g.HEADERS, 5, s, b"\xbe")], 1) == [(STATUS_CONNECTION, b"")]
