"""transport_core beside transport_aio: the same requests, generated, must get the same answers down to the bytes.

Both carry the same methods over a model in numpy, each with metrics of its own, in one event loop in a thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving import tfs_stubs as tfs
from serving.embedded import flags, listen, transport_aio, transport_core
from serving.embedded.api import Api
from serving.embedded.batcher import NaturalBatcher
from serving.embedded.directory import Directory, Known, Served
from serving.embedded.errors import Code, ServingError
from serving.embedded.grpc_service import GrpcApi
from serving.embedded.metrics import Metrics
from tests.contract.serverproc import free_ports
from tests.unit.serving.embedded.fakemodel import FakeModel

TRANSPORTS = {"core": transport_core, "aio": transport_aio}
LIMIT = 100_000  # bytes of a request
WAIT_S = 60.0
ODD = '100 % of "it"\n\tfailed: \u00e4 \u4e2d \U0001f600'


MakeSide = Callable[..., "Side"]


class Side:
    """One transport on a port, and what happens in its methods."""

    def __init__(
        self, name: str, loop: asyncio.AbstractEventLoop, executor: concurrent.futures.Executor, *, learns: bool
    ) -> None:
        self.name = name
        self._learns = learns
        self.started, self.cancelled, self.gate = threading.Event(), threading.Event(), threading.Event()
        (self.port,) = free_ports(1)
        self._loop = loop
        self.server: Any = self.run(self._start(executor))
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.use_local_subchannel_pool", 1)])

    async def _start(self, executor: concurrent.futures.Executor) -> Any:
        directory = Directory()
        model = FakeModel("m", 3)
        served = Served(model=model, batcher=NaturalBatcher(model, executor))
        directory._models["m"] = Known(config=None, served={3: served})
        self.metrics = Metrics()
        service = GrpcApi(Api(manager=directory, metrics=self.metrics), health=True)
        self.templates = service._templates
        if not self._learns:
            self.templates.learn = lambda *_: None  # type: ignore[method-assign]
        own = {"/t/Echo": self._echo, "/t/Held": self._held, "/t/Odd": self._odd, "/t/Fault": self._fault}
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", LIMIT)]
        return await TRANSPORTS[self.name].start({**service.methods, **own}, f"127.0.0.1:{self.port}", options, None)

    async def _echo(self, data: bytes) -> bytes:
        return data

    async def _held(self, data: bytes) -> bytes:
        self.started.set()
        try:
            while not self.gate.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return data

    async def _odd(self, data: bytes) -> bytes:
        raise ServingError(Code(data[0]), ODD)

    async def _fault(self, data: bytes) -> bytes:
        raise RuntimeError("a secret of the server")

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    def ask(self, method: str, data: bytes, **options: Any) -> tuple[Any, ...]:
        """Code, details, message and metadata."""
        options.setdefault("timeout", WAIT_S)
        try:
            answer, done = self.channel.unary_unary(method).with_call(data, **options)
        except grpc.RpcError as error:
            done, answer = error, None  # type: ignore[assignment]
        return done.code().name, done.details(), answer, done.initial_metadata(), done.trailing_metadata()

    def stop(self, grace_s: float) -> None:
        """Once."""
        server, self.server = self.server, None
        if server is not None:
            self.run(server.stop(grace_s))


@pytest.fixture
def side(request: pytest.FixtureRequest) -> Iterator[MakeSide]:
    """Makes the sides a test asks for; all are stopped at its end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    made: list[Side] = []

    def make(name: str, *, learns: bool = True) -> Side:
        made.append(Side(name, loop, executor, learns=learns))
        return made[-1]

    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        yield make
        for each in made:
            each.channel.close()
            each.stop(0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
    loop.close()


@pytest.fixture
def sides(side: MakeSide) -> tuple[Side, Side]:
    return side("core"), side("aio")


def predict_request(rng: np.random.Generator) -> bytes:
    """A Predict request: mostly good, sometimes wrong in one of its parts."""
    request = tfs.predict_pb2.PredictRequest()
    if rng.random() < 0.95:
        request.model_spec.name = str(rng.choice(["m"] * 8 + ["other", ""]))
        request.model_spec.signature_name = str(rng.choice(["", "", "", "serving_default", "nope"]))
        if rng.random() < 0.3:
            request.model_spec.version.value = int(rng.choice([3, 3, 9]))
    for alias in rng.choice(["x", "x", "x", "x", "y"], size=rng.choice([1, 1, 1, 1, 0, 2]), replace=False):
        rows = int(rng.choice([0, 1, 2, 5, 70]))
        tensor = request.inputs[str(alias)]
        tensor.dtype = int(rng.choice([1] * 8 + [3, 0]))
        tensor.tensor_shape.dim.add(size=rows + int(rng.random() < 0.1))
        values = rng.integers(-20, 20, rows).astype("f4")
        if rng.random() < 0.5:
            tensor.tensor_content = values.tobytes()
        else:
            tensor.float_val.extend(values.tolist())
    if rng.random() < 0.2:
        request.output_filter.append(str(rng.choice(["y", "z"])))
    return bytes(request.SerializeToString())


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    """A few bytes changed, lost or added."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(changed) + 1))
        changed[at : at + int(rng.integers(0, 3))] = rng.bytes(int(rng.integers(0, 3)))
    return bytes(changed)


def generated(count: int) -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(7)
    others = ["/tensorflow.serving.ModelService/GetModelStatus", "/grpc.health.v1.Health/Check"]
    others += ["/tensorflow.serving.PredictionService/No", "/no.such.Service/Predict", "/", "/\u00e4"]
    requests = []
    for _ in range(count):
        data = predict_request(rng)
        if rng.random() < 0.4:
            data = mutated(rng, data)
        requests.append((tfs.PREDICT if rng.random() < 0.8 else str(rng.choice(others)), data))
    return requests


def counts(metrics: Metrics) -> list[bytes]:
    return sorted(line for line in metrics.page().splitlines() if line.startswith(b":tensorflow:serving:request_count"))


def test_generated_requests_get_the_same_bytes_codes_details_metadata_and_counts(sides: tuple[Side, Side]) -> None:
    core, aio = sides
    seen: Counter[str] = Counter()
    for method, data in generated(600):
        answer = core.ask(method, data)
        assert answer == aio.ask(method, data), (method, data)
        seen[answer[0]] += 1
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED", "INTERNAL"} <= set(seen)
    assert seen["OK"] >= 50
    assert counts(core.metrics) == counts(aio.metrics) != []


@pytest.mark.parametrize("name", list(TRANSPORTS))
def test_known_heads_are_answered_as_by_a_server_that_never_learns(name: str, side: MakeSide) -> None:
    fast, ordinary = side(name), side(name, learns=False)
    num_known = 0
    for method, first in generated(600):
        for data in (first, first[:-1] + b"\x41"):  # another number in the same place
            num_known += fast.templates.find(data) is not None
            assert fast.ask(method, data) == ordinary.ask(method, data), (method, data)
            assert ordinary.templates.find(data) is None
    assert num_known >= 30
    assert counts(fast.metrics) == counts(ordinary.metrics) != []


def test_every_code_with_details_of_any_characters_and_a_fault_that_is_not_told(sides: tuple[Side, Side]) -> None:
    core, aio = sides
    for code in set(Code) - {Code.OK}:
        assert core.ask("/t/Odd", bytes([code])) == aio.ask("/t/Odd", bytes([code])) == (code.name, ODD, None, (), ())
    told = ("INTERNAL", "Internal error; the server's log has the reason", None, (), ())
    assert core.ask("/t/Fault", b"") == aio.ask("/t/Fault", b"") == told


def test_sizes_compression_and_the_clients_metadata(sides: tuple[Side, Side]) -> None:
    core, aio = sides
    rng = np.random.default_rng(1)
    for size in (0, 1, 1000, 16_384, 65_536, LIMIT, LIMIT + 1, 3 * LIMIT):
        data = rng.bytes(size)
        for options in ({}, {"compression": grpc.Compression.Gzip}, {"metadata": (("a-key", "value"), ("b-bin", b"\x00\xff"))}):
            answer = core.ask("/t/Echo", data, **options)
            assert answer == aio.ask("/t/Echo", data, **options)
            assert answer[0] == ("OK" if size <= LIMIT else "RESOURCE_EXHAUSTED")
            assert answer[2] == (data if size <= LIMIT else None)


def test_a_stream_of_messages_is_answered_by_its_first_and_none_is_refused(sides: tuple[Side, Side]) -> None:
    for each in sides:
        assert each.channel.stream_unary("/t/Echo")(iter([b"one", b"two"]), timeout=WAIT_S) == b"one"
    with pytest.raises(grpc.RpcError) as refused:  # grpc.aio leaves such a call open
        sides[0].channel.stream_unary("/t/Echo")(iter([]), timeout=WAIT_S)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INTERNAL, "")


@pytest.mark.parametrize("name", list(TRANSPORTS))
def test_many_at_once_each_get_their_own_answer(name: str, side: MakeSide) -> None:
    one = side(name)
    count = 3 * transport_core.MAX_EVENTS
    calls = [one.channel.unary_unary("/t/Echo").future(b"%d" % number, timeout=WAIT_S) for number in range(count)]
    assert [call.result() for call in calls] == [b"%d" % number for number in range(count)]


@pytest.mark.parametrize("name", list(TRANSPORTS))
def test_a_client_that_goes_away_or_runs_out_of_time_cancels_the_method(name: str, side: MakeSide) -> None:
    one = side(name)
    assert one.ask("/t/Held", b"", timeout=0.3)[:2] == ("DEADLINE_EXCEEDED", "Deadline Exceeded")
    assert one.cancelled.wait(WAIT_S)
    one.started.clear()
    one.cancelled.clear()
    call = one.channel.unary_unary("/t/Held").future(b"")
    assert one.started.wait(WAIT_S)
    call.cancel()
    assert one.cancelled.wait(WAIT_S)
    assert one.ask("/t/Echo", b"next")[2] == b"next"


@pytest.mark.parametrize("name", list(TRANSPORTS))
def test_a_stop_finishes_what_was_accepted_and_takes_nothing_more(name: str, side: MakeSide) -> None:
    one = side(name)
    with pytest.raises(grpc.RpcError):  # an error's traceback must not keep its call, and so the stop
        one.channel.unary_unary("/t/Fault")(b"", timeout=WAIT_S)
    call = one.channel.unary_unary("/t/Held").future(b"kept", timeout=WAIT_S)
    assert one.started.wait(WAIT_S)
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        stopping = other.submit(one.stop, WAIT_S)
        late = grpc.insecure_channel(f"127.0.0.1:{one.port}", [("grpc.use_local_subchannel_pool", 1)])
        with late, pytest.raises(grpc.RpcError):  # refused, or not taken before its time is over
            while True:
                late.unary_unary("/t/Echo")(b"late", timeout=0.5)
        assert not stopping.done()
        one.gate.set()
        assert call.result() == b"kept"
        stopping.result()


@pytest.mark.parametrize("name", list(TRANSPORTS))
def test_a_stop_cancels_what_takes_longer_than_its_grace(name: str, side: MakeSide) -> None:
    one = side(name)
    call = one.channel.unary_unary("/t/Held").future(b"", timeout=WAIT_S)
    assert one.started.wait(WAIT_S)
    one.stop(0.05)
    assert one.cancelled.wait(WAIT_S)
    assert call.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("name", list(TRANSPORTS))
def test_a_taken_port_is_a_runtime_error(name: str, side: MakeSide) -> None:
    one = side("aio")
    with pytest.raises(RuntimeError):
        one.run(TRANSPORTS[name].start({}, f"127.0.0.1:{one.port}", [("grpc.so_reuseport", 0)], None))


@pytest.mark.parametrize("name", list(TRANSPORTS))
def test_where_rest_cannot_listen_grpc_is_closed_again(name: str) -> None:
    port, taken = free_ports(2)
    given = [f"--grpc_transport={name}", f"--port={port}", f"--rest_api_port={taken}"]

    async def main() -> None:
        with pytest.raises(listen.StartError, match=rf"{taken} \(--rest_api_port\): Address already in use"):
            await listen.Listening().open(flags.parse(["--model_base_path=/m", *given]), Api(manager=Directory()))

    with socket.create_server(("127.0.0.1", taken)):
        asyncio.run(main())
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert "grpc-core" not in {thread.name for thread in threading.enumerate()}


def test_the_private_interface_is_used_with_the_pinned_version_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = (Path(__file__).parents[4] / "requirements" / "constraints.txt").read_text()
    assert re.findall(r"^grpcio==(\S+)$", pins, re.MULTILINE) == [listen.CORE_GRPCIO]
    asked = {name: flags.parse(["--model_base_path=/m", f"--grpc_transport={name}"]) for name in TRANSPORTS}
    assert {name: listen.grpc_transport(given) for name, given in asked.items()} == {"core": "core", "aio": "aio"}
    monkeypatch.setattr(grpc, "__version__", "9.9.9")
    assert {name: listen.grpc_transport(given) for name, given in asked.items()} == {"core": "aio", "aio": "aio"}


def test_another_version_of_grpcio_is_one_spoken_line_and_the_public_interface(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grpc, "__version__", "9.9.9")
    asked = flags.parse(["--model_base_path=/m", f"--port={free_ports(1)[0]}"])

    async def main() -> None:
        listening = listen.Listening()
        await listening.open(asked, Api(manager=Directory()))
        assert isinstance(listening._grpc, transport_aio.Server)
        await listening.stop()

    asyncio.run(main())
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line == f"--grpc_transport=core is for grpcio {listen.CORE_GRPCIO}, found 9.9.9: using aio, which is slower"
