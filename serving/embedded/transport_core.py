"""gRPC by grpcio's C core, driven directly: the same answers as transport_aio at a fraction of its cost a request.

The interface used is private (`grpc._cython.cygrpc`, what grpc.server and grpc.aio are made of), so this module is for
one version of grpcio, listen.CORE_GRPCIO; with any other, listen.py takes transport_aio.

One thread waits on the completion queue. It hands the first event to the event loop and rests; the loop handles that one
and all that follow without waiting, then lets the thread wait again. So a busy server pays one change of threads for many
events, and requests that came together are one batch of the model. Measured in docs/decisions/0019-grpc-transport.md.

A call: request_call -> message and close are asked for -> the method's task -> initial metadata, message and status in one
batch. A close that says "cancelled" (by the client, its deadline, or a stop) cancels the task.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from grpc._cython import cygrpc

from serving.embedded.grpc_service import Method, answered, unimplemented

log = logging.getLogger(__name__)

MAX_EVENTS = 128  # handled before the loop looks at anything else (REST, results of the model)
CANCEL_S = 1.0  # what cancelled calls get to end
_NO_WAIT = 0.0  # a deadline long past
_NO_FLAGS = 0


async def start(methods: Mapping[str, Method], address: str, options: Sequence[tuple[str, Any]], credentials: Any) -> Server:
    """Listen on `address` (`host:port`), with TLS where there are `credentials`. Raises RuntimeError: it cannot be bound."""
    queue = cygrpc.CompletionQueue()
    server = cygrpc.Server(tuple(options), False)  # no xDS
    server.register_completion_queue(queue)
    secured = [credentials._credentials] if credentials else []
    if server.add_http2_port(address.encode(), *secured) == 0:
        raise RuntimeError(f"cannot bind {address}")
    return Server(server, queue, methods)


class Server:
    """A listening server. Everything but `_watch` runs in the event loop."""

    def __init__(self, server: Any, queue: Any, methods: Mapping[str, Method]) -> None:
        self._server = server
        self._queue = queue
        self._methods = {name.encode(): method for name, method in methods.items()}
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()  # no call is left
        self._stopping = False
        self._drained = threading.Lock()  # a bare lock: a Semaphore is Python, run by both threads at every change
        self._drained.acquire()
        server.start()
        self._request_call()
        self._watcher = threading.Thread(target=self._watch, name="grpc-core", daemon=True)
        self._watcher.start()

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more; finish what was accepted, or cancel it after `grace_s` seconds."""
        self._stopping = True
        self._server.shutdown(self._queue, self._on_shutdown)
        await asyncio.wait([self._ended], timeout=grace_s)
        if not self._ended.done():
            self._server.cancel_all_calls()
            await asyncio.wait([self._ended], timeout=CANCEL_S)
        if not self._ended.done():
            log.error("gRPC calls did not end %.0f s after they were cancelled: leaving them", CANCEL_S)
            return
        self._server.destroy()
        self._queue.shutdown()
        await asyncio.to_thread(self._watcher.join)

    def _watch(self) -> None:
        """The thread: wait for an event, hand it over, rest until the loop has no more."""
        while True:
            event = self._queue.poll()
            if event.completion_type == cygrpc.CompletionType.queue_shutdown:
                return
            self._loop.call_soon_threadsafe(self._drain, event)
            event = None  # it holds its call, which the core counts as open as long as it exists
            self._drained.acquire()

    def _drain(self, event: Any) -> None:
        found = event is not None
        for _ in range(MAX_EVENTS):
            if event is None:
                event = self._queue.poll(_NO_WAIT)
            if event.completion_type != cygrpc.CompletionType.operation_complete:  # no more, or the queue is shut down
                if found:
                    break  # what they set off runs now; it takes long enough for more to have come
                self._drained.release()
                return
            found = True
            try:
                event.tag(event)
            except Exception:
                log.exception("A gRPC event could not be handled")
            event = None
        self._loop.call_soon(self._drain, None)

    def _request_call(self) -> None:
        self._server.request_call(self._queue, self._queue, self._on_call)

    def _on_call(self, event: Any) -> None:
        if not self._stopping:
            self._request_call()
        if event.success:
            _Call(self._loop, event.call, self._methods.get(event.call_details.method, unimplemented))

    def _on_shutdown(self, event: Any) -> None:
        self._ended.set_result(None)


class _Call:
    """One unary call; lives as long as an event of it is due or its task runs."""

    __slots__ = ("_call", "_loop", "_method", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Any, method: Method) -> None:
        self._loop = loop
        self._call = call
        self._method = method
        self._task: asyncio.Task[None] | None = None
        call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._on_message)
        call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), self._on_close)

    def _on_message(self, event: Any) -> None:
        data = event.batch_operations[0].message()
        if data is None:
            # the client sent no message (grpc.aio never answers that), or the core has ended the call: then this goes nowhere
            self._method, data = _no_message, b""
        self._task = self._loop.create_task(self._run(data))

    def _on_close(self, event: Any) -> None:
        if event.batch_operations[0].cancelled() and self._task is not None:
            self._task.cancel()

    async def _run(self, data: bytes) -> None:
        code, details, answer = await answered(self._method, data)
        operations = [cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS)]
        if answer is not None:
            operations.append(cygrpc.SendMessageOperation(answer, _NO_FLAGS))
        operations.append(cygrpc.SendStatusFromServerOperation(None, code, details.encode("utf-8", "replace"), _NO_FLAGS))
        self._call.start_server_batch(operations, _sent)


async def _no_message(data: bytes) -> bytes:
    raise DecodeError


def _sent(event: Any) -> None:
    """Whether it reached the client or not, the call is over."""
