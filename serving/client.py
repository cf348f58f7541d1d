"""One small client for every server, sync and async: bytes out and in over the codecs of serving/codecs.py.

    with Client(endpoint, signature, protocol="rest") as client:
        answer = client.predict({"images": rows})
        answer.outputs["logits"], answer.time_ms

    async with AsyncClient(endpoint, signature, protocol="grpc") as client:
        answers = await asyncio.gather(*(client.predict({"images": rows}) for rows in batches))

Every request has a time limit, from its first byte to the answer's last, and is sent once: neither we nor the libraries below
retry. An error says what the server said. `Client` is one connection for one thread; `AsyncClient` has up to `connections`
requests on the way.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError
from faceoff.signature import Arrays, Signature
from serving.codecs import Codec, DecodeError
from serving.protocols import codec

TIMEOUT_S = 30.0
# A channel's option: no proxy, whatever http_proxy says, as urllib3 does over REST. A server is on this machine's loopback.
DIRECT = ("grpc.enable_http_proxy", 0)
MAX_MESSAGE_BYTES = 256 * 1024 * 1024
_SAID_CHARACTERS = 500


class RequestError(FaceoffError):
    """The server did not answer, or answered with an error; the message says what it said."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Named outputs and the time from the first byte sent to the last byte received, encoding apart."""

    outputs: Arrays
    time_ms: float


class Client:
    """One connection to one endpoint over one protocol; not for concurrent use."""

    def __init__(
        self,
        endpoint: Endpoint,
        signature: Signature,
        *,
        protocol: str,
        encoding: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.endpoint = endpoint
        self.codec = codec(endpoint, signature, protocol, encoding)
        self._timeout_s = timeout_s
        self._transport = _Grpc(self.codec.route.target) if protocol == "grpc" else _Rest(self.codec.route.target)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def predict(self, inputs: Arrays) -> Answer:
        """Send one request. Raises UsageError for inputs that do not fit, RequestError for everything after that."""
        num_rows = self.codec.signature.check_inputs(inputs)
        body = self.codec.encode(inputs)
        started = time.perf_counter()
        answer = self._transport.send(self.codec, body, self._timeout_s)
        return _decode(self.endpoint, self.codec, answer, num_rows, started)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class AsyncClient:
    """Concurrent requests to one endpoint over one protocol, inside one event loop.

    gRPC goes through grpc.aio; REST has `connections` kept connections, each used by a thread of its own.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        signature: Signature,
        *,
        protocol: str,
        encoding: str | None = None,
        timeout_s: float = TIMEOUT_S,
        connections: int = 8,
    ) -> None:
        self.endpoint = endpoint
        self.codec = codec(endpoint, signature, protocol, encoding)
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(connections)
        target = self.codec.route.target
        self._transport = _AsyncGrpc(target) if protocol == "grpc" else _AsyncRest(target, connections)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def predict(self, inputs: Arrays) -> Answer:
        """As `Client.predict`; `time_ms` starts when one of the connections is free."""
        num_rows = self.codec.signature.check_inputs(inputs)
        body = self.codec.encode(inputs)
        async with self._slots:
            started = time.perf_counter()
            answer = await self._transport.send(self.codec, body, self._timeout_s)
            return _decode(self.endpoint, self.codec, answer, num_rows, started)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


def _decode(endpoint: Endpoint, coder: Codec, body: bytes, num_rows: int, started: float) -> Answer:
    time_ms = (time.perf_counter() - started) * 1e3
    try:
        return Answer(outputs=coder.decode(body, num_rows), time_ms=time_ms)
    except DecodeError as error:
        raise RequestError(f"{endpoint.server} answered what the signature does not promise: {error}") from error


class _Rest:
    def __init__(self, target: str, connections: int = 1) -> None:
        from serving.http_pool import Pool

        host, port = target.rsplit(":", 1)
        self._pool = Pool(host, int(port), maxsize=connections, block=connections > 1, retries=False)

    def send(self, coder: Codec, body: bytes, timeout_s: float) -> bytes:
        """POST. Raises RequestError."""
        import urllib3

        route = coder.route
        headers = {"Content-Type": route.content_type}
        deadline = time.monotonic() + timeout_s
        try:
            # Without `redirect` a 3xx is an answer like any other: we never send the body to another place.
            response = self._pool.urlopen(
                "POST", route.path, body=body, headers=headers, timeout=timeout_s, redirect=False, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            # urllib3 counts a refused connection among the timeouts, which it is not.
            refused = isinstance(error, urllib3.exceptions.NewConnectionError)
            late = not refused and (isinstance(error, urllib3.exceptions.TimeoutError) or time.monotonic() > deadline)
            why = f" within {timeout_s:g} s" if late else f": {error}"
            raise RequestError(f"no answer from http://{route.target}{route.path}{why}") from error
        if response.status != 200:
            raise RequestError(f"HTTP {response.status} from {route.path}: {_said(response.data)}")
        return response.data

    def close(self) -> None:
        self._pool.close()


class _AsyncRest:
    def __init__(self, target: str, connections: int) -> None:
        self._rest = _Rest(target, connections)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="client")

    async def send(self, coder: Codec, body: bytes, timeout_s: float) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._rest.send, coder, body, timeout_s)

    async def close(self) -> None:
        self._threads.shutdown()
        self._rest.close()


class _Grpc:
    def __init__(self, target: str) -> None:
        import grpc

        self._channel = grpc.insecure_channel(target, options=_grpc_options())

    def send(self, coder: Codec, body: bytes, timeout_s: float) -> bytes:
        """One unary call. Raises RequestError."""
        import grpc

        try:
            call = self._channel.unary_unary(coder.route.path, request_serializer=None, response_deserializer=None)
            answer: bytes = call(body, timeout=timeout_s)
        except grpc.RpcError as error:
            raise RequestError(_grpc_said(coder, error)) from error
        return answer

    def close(self) -> None:
        self._channel.close()


class _AsyncGrpc:
    def __init__(self, target: str) -> None:
        import grpc.aio

        self._channel = grpc.aio.insecure_channel(target, options=_grpc_options())

    async def send(self, coder: Codec, body: bytes, timeout_s: float) -> bytes:
        import grpc

        try:
            call = self._channel.unary_unary(coder.route.path, request_serializer=None, response_deserializer=None)
            answer: bytes = await call(body, timeout=timeout_s)
        except grpc.RpcError as error:
            raise RequestError(_grpc_said(coder, error)) from error
        return answer

    async def close(self) -> None:
        await self._channel.close()


def _grpc_options() -> list[tuple[str, int]]:
    # gRPC sends a request again that no server has seen; enable_retries=0 is for what it would do beyond that.
    sizes = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.max_send_message_length", MAX_MESSAGE_BYTES)]
    return [*sizes, ("grpc.enable_retries", 0), DIRECT]


def _grpc_said(coder: Codec, error: Any) -> str:
    return f"gRPC {error.code().name} from {coder.route.target}{coder.route.path}: {error.details()}"


def _said(body: bytes) -> str:
    """The server's own words: the error of a JSON document, else the beginning of the body."""
    text = body.decode(errors="replace").strip()
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        text = str(document.get("error") or document.get("message") or text)
    return text[:_SAID_CHARACTERS] or "(an empty body)"


def get_json(url: str, timeout_s: float = 2.0) -> Any:
    """The JSON at `url`, or None when there is no 200 with JSON: for polling, where 'not yet' is no error."""
    import urllib3

    try:
        with urllib3.PoolManager(retries=False, timeout=timeout_s) as pool:
            response = pool.request("GET", url)
        return json.loads(response.data) if response.status == 200 else None
    except (urllib3.exceptions.HTTPError, ValueError):
        return None
