"""The client against a server that refuses, hangs, redirects, lies or hangs up: sent once, and told in its words."""

import asyncio
import json
import socket
import threading
import time
from concurrent import futures
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest

from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError
from faceoff.signature import image_classifier
from serving import tfs_stubs as tfs
from serving.client import AsyncClient, Client, RequestError

SIGNATURE = image_classifier((2, 2, 1), 3)
ROWS = {"images": np.zeros((1, 2, 2, 1), np.float32)}
RIGHT = json.dumps({"predictions": [[1.0, 2.0, 3.0]]}).encode()


def endpoint(rest_port=1, grpc_port=1):
    return Endpoint(
        server="tfserving-embedded",
        model="cnn",
        version=1,
        rest_url=f"http://127.0.0.1:{rest_port}",
        grpc_target=f"127.0.0.1:{grpc_port}",
        metrics_url=None,
        device="cpu",
        settings={},
        artifact_format="savedmodel",
        precision="float32",
        tolerance=1e-4,
        implementation="x",
        export_sha256="0",
    )


@contextmanager
def rest(status=200, body=RIGHT, headers=(), hold=None):
    """A server that counts requests and gives one answer, after `hold` is set."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            seen.append(self.rfile.read(int(self.headers["Content-Length"])))
            if hold is not None:
                hold.wait(30)
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

        def handle(self):
            with suppress(ConnectionError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], seen
    finally:
        if hold is not None:
            hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def rpc(behave):
    """A PredictionService that does `behave(context)` and counts calls."""
    seen = []

    class Predict(tfs.prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802
            seen.append(request)
            return behave(context)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    tfs.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predict(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, seen
    finally:
        server.stop(None).wait()


def ask(where, protocol, *, asynchronous, timeout_s=20.0):
    if not asynchronous:
        with Client(where, SIGNATURE, protocol=protocol, timeout_s=timeout_s) as client:
            return client.predict(ROWS)

    async def once():
        async with AsyncClient(where, SIGNATURE, protocol=protocol, timeout_s=timeout_s) as client:
            return await client.predict(ROWS)

    return asyncio.run(once())


both = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


@both
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, b'{"error": "rows have shape [3]"}', r"HTTP 400 from /v1/models/cnn/versions/1:predict: rows have shape \[3\]$"),
        (503, b'{"code": 503, "message": "queue is full"}', "HTTP 503 .*: queue is full$"),
        (500, b"<html>broken</html>", "HTTP 500 .*: <html>broken</html>$"),
        (404, b"", r"HTTP 404 .*: \(an empty body\)$"),
        (200, b'{"predictions": [[1.0]]}', "answered what the signature does not promise"),
        (0, b"", "no answer from http://127.0.0.1"),
    ],
)
def test_an_error_says_what_the_server_said_and_nothing_is_sent_twice(status, body, words, asynchronous):
    with rest(status, body) as (port, seen):
        with pytest.raises(RequestError, match=words):
            ask(endpoint(rest_port=port), "rest", asynchronous=asynchronous)
        assert len(seen) == 1


@both
def test_a_redirect_is_not_followed(asynchronous):
    with rest() as (other, elsewhere), rest(307, b"go", [("Location", f"http://127.0.0.1:{other}/")]) as (port, seen):
        with pytest.raises(RequestError, match="HTTP 307"):
            ask(endpoint(rest_port=port), "rest", asynchronous=asynchronous)
        assert (len(seen), len(elsewhere)) == (1, 0)


@both
def test_a_server_that_hangs_is_a_timeout_that_says_how_long(asynchronous):
    hold = threading.Event()
    with rest(hold=hold) as (port, seen):
        with pytest.raises(RequestError, match=r"no answer from http://.*:predict within 0.2 s"):
            ask(endpoint(rest_port=port), "rest", asynchronous=asynchronous, timeout_s=0.2)
        assert len(seen) == 1


@contextmanager
def trickling(head, slow, pause_s):
    """A server that sends `head` at once and then a byte of `slow` after each pause, until the client has gone."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(head)
                for byte in slow:
                    time.sleep(pause_s)
                    connection.sendall(bytes([byte]))

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@both
@pytest.mark.parametrize("pause_s", [0.05, 0.6])
@pytest.mark.parametrize(
    ("head", "slow"),
    [(b"", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40), (b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n", b" " * 60)],
    ids=["head", "body"],
)
def test_the_time_limit_is_the_whole_requests(head, slow, pause_s, asynchronous):
    with trickling(head, slow, pause_s) as port:
        started = time.monotonic()
        with pytest.raises(RequestError, match=r"no answer from http://.*:predict within 0.8 s"):
            ask(endpoint(rest_port=port), "rest", asynchronous=asynchronous, timeout_s=0.8)
        assert 0.8 <= time.monotonic() - started < 1.15


def test_every_request_of_a_connection_has_the_whole_limit():
    with rest() as (port, seen), Client(endpoint(rest_port=port), SIGNATURE, protocol="rest", timeout_s=0.5) as client:
        for _ in range(3):
            time.sleep(0.3)
            client.predict(ROWS)
        assert len(seen) == 3


@both
def test_no_proxy_is_between_us_and_a_server(monkeypatch, asynchronous):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        reached = rpc(lambda context: context.abort(grpc.StatusCode.NOT_FOUND, "reached"))
        with reached as (port, _), pytest.raises(RequestError, match="reached"):
            ask(endpoint(grpc_port=port), "grpc", asynchronous=asynchronous)
        with rest() as (port, _):
            ask(endpoint(rest_port=port), "rest", asynchronous=asynchronous)


@both
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_nobody_there_is_an_error_that_names_the_place(protocol, asynchronous):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RequestError, match=f"127.0.0.1:{port}.*refused") as told:
        ask(endpoint(rest_port=port, grpc_port=port), protocol, asynchronous=asynchronous)
    assert "within" not in str(told.value)  # it was told at once


@both
def test_a_grpc_error_says_what_the_server_said_and_is_sent_once(asynchronous):
    with rpc(lambda context: context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is full")) as (port, seen):
        with pytest.raises(RequestError, match=r"gRPC UNAVAILABLE from 127.0.0.1.*: the queue is full"):
            ask(endpoint(grpc_port=port), "grpc", asynchronous=asynchronous)
        assert len(seen) == 1


@both
def test_a_grpc_server_that_hangs_is_a_timeout(asynchronous):
    hold = threading.Event()
    with rpc(lambda context: hold.wait(30)) as (port, _):
        with pytest.raises(RequestError, match="DEADLINE_EXCEEDED"):
            ask(endpoint(grpc_port=port), "grpc", asynchronous=asynchronous, timeout_s=0.2)
        hold.set()


@both
def test_a_right_answer_is_named_arrays(asynchronous):
    with rest() as (port, _):
        answer = ask(endpoint(rest_port=port), "rest", asynchronous=asynchronous)
    assert answer.outputs["logits"].tolist() == [[1.0, 2.0, 3.0]]


def test_inputs_that_do_not_fit_are_not_sent():
    with rest() as (port, seen), Client(endpoint(rest_port=port), SIGNATURE, protocol="rest") as client:
        with pytest.raises(UsageError):
            client.predict({"images": np.zeros((1, 3), np.float32)})
        assert seen == []


def test_an_async_client_has_no_more_requests_on_the_way_than_connections():
    hold = threading.Event()

    async def many(port):
        async with AsyncClient(endpoint(rest_port=port), SIGNATURE, protocol="rest", connections=2) as client:
            tasks = [asyncio.create_task(client.predict(ROWS)) for _ in range(6)]
            while len(seen) < 2:
                await asyncio.sleep(0.005)
            most = len(seen)
            hold.set()
            return most, await asyncio.gather(*tasks)

    with rest(hold=hold) as (port, seen):
        most, answers = asyncio.run(many(port))
    assert (most, len(answers), len(seen)) == (2, 6, 6)
