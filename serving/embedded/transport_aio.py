"""gRPC by grpcio's public interface, grpc.aio: the ordinary path beside transport_core, and its fallback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc

from serving.embedded.grpc_service import Method, answered, unimplemented

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


async def start(methods: Mapping[str, Method], address: str, options: Sequence[tuple[str, Any]], credentials: Any) -> Server:
    """Listen on `address` (`host:port`), with TLS where there are `credentials`. Raises RuntimeError: it cannot be bound."""
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((_Handler(methods),))
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    if bound == 0:
        raise RuntimeError(f"cannot bind {address}")
    await server.start()
    return Server(server)


class Server:
    """A listening server."""

    def __init__(self, server: Any) -> None:
        self._server = server

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more; finish what was accepted, or cancel it after `grace_s` seconds."""
        await self._server.stop(grace_s)


class _Handler(grpc.GenericRpcHandler):
    """Every method of the server, known or not."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._handlers = {name: grpc.unary_unary_rpc_method_handler(_behaviour(method)) for name, method in methods.items()}
        self._unknown = grpc.unary_unary_rpc_method_handler(_behaviour(unimplemented))

    def service(self, handler_call_details: Any) -> Any:
        """See grpc.GenericRpcHandler."""
        return self._handlers.get(handler_call_details.method, self._unknown)


def _behaviour(method: Method) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def call(data: bytes, context: Any) -> bytes:
        code, details, answer = await answered(method, data)
        if answer is None:
            await context.abort(_STATUS_CODES[code], details)
            raise AssertionError("abort returned")
        return answer

    return call
