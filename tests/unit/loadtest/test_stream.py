"""loadtest.stream over real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from loadtest import stream
from loadtest.stream import Listener, Stream

TRIES = 200  # the kernel begins to stamp a moment after it was first asked to


class Kept:
    """A wire that keeps what it is told."""

    transport: Stream

    def __init__(self) -> None:
        self.data = b""
        self.ends: list[OSError | None] = []
        self.changed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.changed.set()

    def connection_lost(self, error: OSError | None) -> None:
        self.ends.append(error)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 30)


def run(talk: Callable[[Kept, socket.socket], Awaitable[None]]) -> None:
    """A stream connected to a plain blocking socket."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            wire = Kept()
            await stream.connect(wire, *listening.getsockname())
            peer, _ = listening.accept()
            with peer:
                await talk(wire, peer)
            wire.transport.close()
            await wire.until(lambda: len(wire.ends) == 1)

    uvloop.run(main())


def test_bytes_carry_the_moment_they_came_not_the_moment_they_were_read() -> None:
    async def talk(wire: Kept, peer: socket.socket) -> None:
        for _ in range(TRIES):
            wire.data = b""
            before = time.monotonic_ns()
            peer.sendall(b"x")
            sent = time.monotonic_ns()
            time.sleep(0.005)  # the loop is held up: it reads later than this
            read_after = time.monotonic_ns()
            await wire.until(lambda: wire.data == b"x")
            assert wire.transport.arrived_ns >= before - 1000  # the two clocks are not read at once
            if wire.transport.arrived_ns <= sent < read_after:
                return
        pytest.skip("this kernel does not say when bytes came")

    run(talk)


def test_what_the_kernel_does_not_take_at_once_follows_in_order() -> None:
    whole = b"".join(b"%07d\n" % number for number in range(1_000_000))

    async def talk(wire: Kept, peer: socket.socket) -> None:
        wire.transport.write(whole[:5_000_000])
        wire.transport.write(whole[5_000_000:])
        found = bytearray()
        loop = asyncio.get_running_loop()
        peer.setblocking(False)
        while len(found) < len(whole):
            found += await asyncio.wait_for(loop.sock_recv(peer, 1 << 20), 30)
        assert bytes(found) == whole

    run(talk)


def test_the_other_side_ends_it() -> None:
    async def talk(wire: Kept, peer: socket.socket) -> None:
        peer.sendall(b"bye")
        peer.close()
        await wire.until(lambda: bool(wire.ends))
        assert (wire.data, wire.ends) == (b"bye", [None])
        wire.transport.write(b"nobody reads this")
        wire.transport.close()
        await asyncio.sleep(0)
        assert len(wire.ends) == 1

    run(talk)


def test_nobody_listens() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                await stream.connect(Kept(), *taken.getsockname())

    uvloop.run(main())


def test_a_listener_gives_each_connection_a_wire_of_its_own() -> None:
    async def main() -> None:
        wires: list[Kept] = []

        def wire() -> Kept:
            wires.append(Kept())
            return wires[-1]

        listener = Listener(wire)
        clients = [Kept(), Kept()]
        for number, client in enumerate(clients):
            (await stream.connect(client, "127.0.0.1", listener.port)).write(b"%d" % number)
        while len(wires) < 2:
            await asyncio.sleep(0.001)
        for one in wires:
            await one.until(lambda one=one: bool(one.data))  # type: ignore[misc]
            one.transport.write(b"to " + one.data)
        for number, client in enumerate(clients):
            await client.until(lambda client=client: bool(client.data))  # type: ignore[misc]
            assert client.data == b"to %d" % number
            client.transport.close()
        for one in wires:
            await one.until(lambda one=one: bool(one.ends))  # type: ignore[misc]
        listener.close()

    uvloop.run(main())
