"""Calls between two processes of this program over a socket, in both directions.

A message is its length and a pickle: both ends are this program, and nobody else has the socket.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from serving.embedded.errors import Code, ServingError

log = logging.getLogger(__name__)

Method = Callable[..., Awaitable[Any]]


class Peer:
    """One end. `methods` are what the other end may call; calls start in the order they were made."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, methods: Mapping[str, Method]) -> None:
        self._reader = reader
        self._writer = writer
        self._methods = methods
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._closed = False

    async def call(self, method: str, *arguments: Any) -> Any:
        """What the other end's method gives. Raises its ServingError, or UNAVAILABLE when the other end has gone."""
        if self._closed:
            raise _gone()
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._send(("call", number, method, arguments))
        return await future

    async def run(self) -> None:
        """Serve the other end until it closes; then every call that waits fails."""
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(4))
                kind, number, *rest = pickle.loads(await self._reader.readexactly(size))  # noqa: S301  see the module
                if kind == "call":
                    task = asyncio.create_task(self._answer(number, *rest))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                elif kind == "result":
                    self._waiting.pop(number).set_result(rest[0])
                else:
                    self._waiting.pop(number).set_exception(ServingError(*rest))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._closed = True
            waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                if not future.done():
                    future.set_exception(_gone())
            self._writer.close()

    def close(self) -> None:
        """Let the other end's `run`, and with it ours, end."""
        self._writer.close()

    async def _answer(self, number: int, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            self._send(("result", number, await self._methods[method](*arguments)))
        except ServingError as error:
            self._send(("error", number, error.code, error.message))
        except Exception as error:
            log.exception("%s failed", method)
            self._send(("error", number, Code.INTERNAL, f"{type(error).__name__}; the server's log has more"))

    def _send(self, message: tuple[Any, ...]) -> None:
        data = pickle.dumps(message)
        if not self._writer.is_closing():
            self._writer.write(len(data).to_bytes(4) + data)


def _gone() -> ServingError:
    return ServingError(Code.UNAVAILABLE, "another process of the server has ended")
