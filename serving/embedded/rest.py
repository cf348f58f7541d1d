"""The REST API: routes, lookups, errors; everything between an HTTP request and `api`.

Routes and their oddities are the real server's (http_rest_api_util.cc): matching ignores case but the action does
not, the query is part of the path, names are percent-decoded after routing, anything else under /v1/ is
`Malformed request`, anything outside is libevent's 404 page.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import re
import time
from collections.abc import Awaitable, Coroutine
from typing import Any
from urllib.parse import unquote_to_bytes

from serving.embedded import examples, rest_codec, rest_decode
from serving.embedded.api import Api, predict
from serving.embedded.directory import Served
from serving.embedded.errors import Code, ServingError, http_status, invalid
from serving.embedded.http import Exchange
from serving.embedded.http_answer import Headers, html_page
from serving.embedded.signature import Signature
from serving.embedded.status_json import metadata_json, status_json
from serving.embedded.versions import ModelSpec

log = logging.getLogger(__name__)

_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)", re.IGNORECASE
)
_STATUS = re.compile(r"/v1/models(?:/([^/:]+))?(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?(?:/(metadata))?", re.IGNORECASE)
_CORS = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
]
LARGE_BODY = 1 << 18  # bytes; parsing or writing more than this happens in a thread
LARGE_OUTPUT = 1 << 14  # elements


class EmptyAnswerError(Exception):
    """An answer of 400 without a body: what the real server gives where the version does not fit int64."""


class RestApi:
    """Answers `Exchange`s. `metrics_path` is where the monitoring page is, if anywhere."""

    def __init__(
        self,
        api: Api,
        *,
        timeout_s: float = 30.0,
        cors: bool = False,
        metrics_path: str | None = None,
    ) -> None:
        self._api = api
        self._timeout_s = timeout_s
        self._cors: Headers = _CORS if cors else []
        self._headers: Headers = [("Content-Type", "application/json"), *self._cors]
        self._metrics_path = metrics_path
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, exchange: Exchange) -> None:
        """Answer now, or start what will."""
        method, path = exchange.method, exchange.path
        if self._metrics_path is not None and path == self._metrics_path and method in ("GET", "POST"):
            self._spawn(self._metrics(exchange))
        elif path[:4].lower() != "/v1/":
            exchange.keep_alive = False
            exchange.respond(404, [("Content-Type", "text/html")], html_page(404))
        elif method == "OPTIONS":
            asked = "origin" in exchange.headers and "access-control-request-method" in exchange.headers
            exchange.respond(200 if asked else 400, [*self._cors, ("Content-Type", "text/html; charset=ISO-8859-1")], b"")
        else:
            self._handle_api(exchange)

    def _handle_api(self, exchange: Exchange) -> None:
        try:
            if exchange.method == "POST" and (match := _PREDICTION.fullmatch(exchange.path)):
                spec = _spec(match)
                if match[4] == "predict":
                    self._start(exchange, spec.name, "predict", self._predict(spec, exchange.body))
                    return
                if match[4] in ("classify", "regress"):
                    self._start(exchange, spec.name, match[4], self._examples(spec, match[4], exchange.body))
                    return
            elif exchange.method == "GET" and (match := _STATUS.fullmatch(exchange.path)):
                spec = _spec(match)
                exchange.respond(200, self._headers, self._describe(spec, match[4]))
                return
            raise invalid(f"Malformed request: {exchange.method} {exchange.path}")
        except EmptyAnswerError:
            exchange.respond(400, self._headers, b"")
        except ServingError as error:
            self._fail(exchange, error)

    def _describe(self, spec: ModelSpec, subresource: str | None) -> bytes:
        if not spec.name:
            raise invalid("Missing model name in request.")
        if subresource == "metadata":
            served = self._api.manager.find(spec)
            return metadata_json(spec.name, served.model)
        return status_json(self._api.manager.statuses(spec.name, spec.version))

    def _fail(self, exchange: Exchange, error: ServingError) -> None:
        exchange.respond(http_status(error.code), self._headers, rest_codec.error_body(error.message))

    def _start(self, exchange: Exchange, model: str, action: str, work: Awaitable[bytes]) -> None:
        """Run `work` for at most the timeout, answer with what it gives, and count it."""
        late = ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for the model")
        timer = self._loop.call_later(self._timeout_s, self._fail, exchange, late)
        started = time.perf_counter()

        async def run() -> None:
            code = Code.OK
            try:
                exchange.respond(200, self._headers, await work)
            except ServingError as error:
                code = error.code
                self._fail(exchange, error)
            except Exception:
                log.exception("A REST request failed")
                code = Code.INTERNAL
                self._fail(exchange, ServingError(code, "Internal error; the server's log has the reason"))
            finally:
                timer.cancel()
            self._api.metrics.request(model, action, "REST", code, time.perf_counter() - started)

        self._spawn(run())

    async def _metrics(self, exchange: Exchange) -> None:
        try:
            exchange.respond(200, [("Content-Type", "text/plain")], await self._api.metrics_page())
        except ServingError as error:
            self._fail(exchange, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _predict(self, spec: ModelSpec, body: bytes) -> bytes:
        found: Served | ServingError
        try:
            found = self._api.manager.find(spec)
        except ServingError as error:
            found = error  # the body's own faults come first

        def find(name: str) -> Signature:
            if isinstance(found, ServingError):
                raise found
            return rest_decode.predict_signature(found.model.signatures, name)

        with contextlib.nullcontext() if isinstance(found, ServingError) else found:
            if len(body) > LARGE_BODY:
                request = await self._loop.run_in_executor(None, rest_codec.decode, body, find)
            else:
                request = rest_codec.decode(body, find)
            assert isinstance(found, Served)
            result = await predict(self._api, spec, found, request.signature, request.inputs)
        if sum(array.size for array in result.outputs.values()) > LARGE_OUTPUT:
            return await self._loop.run_in_executor(None, lambda: rest_codec.encode(result.outputs, row=request.row))
        return rest_codec.encode(result.outputs, row=request.row)

    async def _examples(self, spec: ModelSpec, action: str, body: bytes) -> bytes:
        from serving.embedded import rest_examples  # needs the stubs, which come after TensorFlow

        name, message = rest_examples.decode(body)
        spec = dataclasses.replace(spec, signature_name=name)
        method = examples.CLASSIFY if action == "classify" else examples.REGRESS
        with self._api.manager.find(spec) as served:
            _, arrays, count = await examples.run_one(self._api, spec, served, method, message)
        if method == examples.CLASSIFY:
            return rest_examples.encode_classifications(examples.classifications(arrays, count))
        return rest_examples.encode_regressions(examples.regressions(arrays, count))


def _spec(match: re.Match[str]) -> ModelSpec:
    version = None
    if match[2]:
        digits = match[2].lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:
            raise EmptyAnswerError
        version = int(digits)
    return ModelSpec(name=_decoded(match[1]), version=version, label=_decoded(match[3]) if match[3] else None)


def _decoded(text: Any) -> str:
    """Percent-decoded, once; bytes that are not UTF-8 are kept."""
    return unquote_to_bytes(text.encode("latin-1")).decode("utf-8", "surrogateescape") if text else ""
