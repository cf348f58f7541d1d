"""How near the embedded server is to its limits: `python -m serving.bench --model cnn`.

In one run, on the same cores, over REST and gRPC, with 1, 8 and 32 requests of one row in flight and with 32 rows a request:
throughput, median latency, the server's CPU a request, and

- 1 row over gRPC: throughput over that of an empty gRPC method of the same server (grpc.health.v1.Health/Check);
- 32 rows: rows a second over those of the same SavedModel called in process (serving.inprocess);
- with `--transports core,aio`, over gRPC: throughput over grpc.aio's, and grpc.aio's CPU a request over this one's.

The real TensorFlow Serving is measured beside it where there is one (TENSORFLOW_MODEL_SERVER, PATH). All servers run from the
start and are asked in turn, shape by shape, `--rounds` times; figures are medians over rounds. The client is asyncio on the
load generator's core, not the load engine: with `busy` under 0.9 the client was the limit: look at CPU then.
For working on the server; what is compared and published comes from `make compare` and experiment.serving_performance.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import cli, cores, golden, presets, processes, progress, servables
from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError
from faceoff.servables import Trained
from serving import deploy, running
from serving.client import DIRECT, Client
from serving.codecs import Route
from serving.lifecycle import Job
from serving.placement import choose_cores, choose_ports
from serving.protocols import PROTOCOLS, codec
from serving.servers import server_class
from serving.servers.tfserving import find_model_server

EMPTY = "/grpc.health.v1.Health/Check"
SHAPES = ((1, 1), (1, 8), (1, 32), (32, 1))  # rows a request, requests in flight
SHAPE_OF_ROW = ("server", "transport", "request", "rows", "in_flight")
REFERENCE = "aio"  # the transport that others are compared with
MAX_CHANNELS = 8
Send = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A running server; `transport` is what carries its gRPC (empty: its own way)."""

    endpoint: Endpoint
    transport: str

    @property
    def requests(self) -> tuple[str, ...]:
        """What it is asked; the second transport has nothing to do with REST."""
        return ("empty", "grpc") if self.transport == REFERENCE else ("empty", "grpc", "rest")


def bench(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all servers in turn; returns a row for each server, transport and shape."""
    store = cli.store(args)
    trained = servables.read_trained(store, presets.model(args.model).name)
    found = [("tfserving-embedded", transport) for transport in args.transports.split(",")]
    found += [("tfserving", "")] if find_model_server() else []
    kinds = [(server_class(name), transport) for name, transport in found]
    form = kinds[0][0].servable_format(kinds[0][0].settings(args.tuning))
    served = deploy.served(store, trained, form, args.version)
    chosen = choose_cores(args.cores, share=True)
    limit = _in_process(args, served.artifact, chosen)
    os.sched_setaffinity(0, cores.split().generator)
    with ExitStack() as stack:
        servers = []
        for kind, transport in kinds:
            flags = {"enable_grpc_healthcheck_service": True, **({"grpc_transport": transport} if transport else {})}
            job = Job(
                served=(served,),
                artifact_format=form,
                settings=kind.settings(args.tuning, {"flags": flags}),
                cores=chosen,
                device="cpu",
                workdir=Path(stack.enter_context(tempfile.TemporaryDirectory())),
            )
            server = kind(job, choose_ports(kind.standard_ports, "free"))
            stack.callback(server.stop)
            server.start()
            servers.append((server, transport))
        subjects = []
        for server, transport in servers:  # no call before the last start: a process forked beside grpcio's threads may abort
            server.wait_ready()
            (endpoint,) = server.describe()
            progress.say(f"bench: {endpoint.implementation} {transport} answers")
            _check(endpoint, trained)
            subjects.append(Subject(endpoint=endpoint, transport=transport))
        rows = asyncio.run(_measure(subjects, trained, args.seconds, args.rounds))
    _add_ratios(rows, limit)
    columns = ["server", "transport", "request", "rows", "in flight", "requests/s", "p50 us", "CPU us", "busy"]
    columns += ["over empty", "over in process", "rate over aio", "aio's CPU over"]
    progress.table(f"{args.model} on cores {list(chosen)}", columns, [_shown(row) for row in rows])
    return {"model": args.model, "cores": list(chosen), "in_process_rows_per_s": limit, "rounds": args.rounds, "measured": rows}


def _in_process(args: argparse.Namespace, artifact: Path, chosen: Sequence[int]) -> float:
    options = ["--kind", "savedmodel", "--artifact", str(artifact), "--model", args.model, "--shapes", "1x32"]
    options += ["--cores", ",".join(map(str, chosen)), "--artifacts", str(args.artifacts), "--results", str(args.results)]
    (limit,) = processes.run_stage("serving.inprocess", *options)["rows_per_s"].values()
    return float(limit)


def _check(endpoint: Endpoint, trained: Trained) -> None:
    """Raise FaceoffError for a wrong answer: how fast it comes is then of no interest."""
    rows = trained.golden.rows(0, 2)
    for protocol in PROTOCOLS:
        with Client(endpoint, trained.signature, protocol=protocol) as client:
            if problem := golden.compare(client.predict(rows.inputs).outputs, rows.outputs, endpoint.tolerance).problem:
                raise FaceoffError(f"{endpoint.server} over {protocol} answers wrongly: {problem}")


async def _measure(subjects: Sequence[Subject], trained: Trained, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Every shape of every server, one window each in turn; then the medians over `rounds`."""
    import grpc

    options = [("grpc.use_local_subchannel_pool", 1), DIRECT]
    channels = {
        each: [grpc.aio.insecure_channel(each.endpoint.grpc_target, options=options) for _ in range(MAX_CHANNELS)]
        for each in subjects
    }
    windows: dict[tuple[Subject, str, int, int], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for request in ("empty", "grpc", "rest"):
            for num_rows, in_flight in SHAPES:
                for each in subjects:
                    if request not in each.requests or (request == "empty" and num_rows > 1):
                        continue
                    bodies = [_body(each, request, trained, number, num_rows) for number in range(in_flight)]
                    async with AsyncExitStack() as stack:
                        open_channels = itertools.cycle(channels[each])
                        senders = [await _sender(stack, route, next(open_channels), body) for route, body in bodies]
                        window = await _window(each.endpoint, senders, seconds)
                    windows.setdefault((each, request, num_rows, in_flight), []).append(window)
    for channel in itertools.chain(*channels.values()):
        await channel.close()
    rows = []
    for (each, request, num_rows, in_flight), found in windows.items():
        medians = {name: float(np.median([window[name] for window in found])) for name in found[0]}
        shape = {"server": each.endpoint.server, "transport": each.transport, "request": request}
        rows.append({**shape, "rows": num_rows, "in_flight": in_flight, **medians})
    return rows


def _add_ratios(rows: list[dict[str, Any]], limit: float) -> None:
    """To each row its four ratios; None where there is nothing to compare."""
    by_shape = {tuple(row[name] for name in SHAPE_OF_ROW): row for row in rows}
    for row in rows:
        shape = [row[name] for name in SHAPE_OF_ROW]
        grpc_call = row["request"] != "rest"
        empty = by_shape.get((*shape[:2], "empty", *shape[3:])) if row["request"] == "grpc" else None
        reference = by_shape.get((shape[0], REFERENCE, *shape[2:])) if grpc_call and row["transport"] != REFERENCE else None
        row["over_empty"] = row["requests_per_s"] / empty["requests_per_s"] if empty else None
        row["over_in_process"] = row["requests_per_s"] * row["rows"] / limit if row["rows"] > 1 else None
        row["rate_over_aio"] = row["requests_per_s"] / reference["requests_per_s"] if reference else None
        row["aio_cpu_over"] = reference["cpu_us"] / row["cpu_us"] if reference and row["cpu_us"] else None


def _body(subject: Subject, request: str, trained: Trained, number: int, num_rows: int) -> tuple[Route | None, bytes]:
    """Where to and what: the golden rows from `number`; the empty method has no route."""
    if request == "empty":
        return None, b""
    coder = codec(subject.endpoint, trained.signature, request)
    return coder.route, coder.encode(trained.golden.rows(number, num_rows).inputs)


async def _sender(stack: AsyncExitStack, route: Route | None, channel: Any, body: bytes) -> Send:
    """What sends one request and waits for its answer."""
    if route is None or route.protocol == "grpc":
        return _grpc_sender(channel, route.path if route else EMPTY, body)
    return await _rest_sender(stack, route.target, route.path, body)


async def _window(endpoint: Endpoint, senders: Sequence[Send], seconds: float) -> dict[str, float]:
    await _load(senders, seconds / 2)  # the server meets its batch sizes
    pids = running.tree(endpoint.pids[0])
    before, _ = running.usage(pids)
    started = time.perf_counter()
    times = await _load(senders, seconds)
    took = time.perf_counter() - started
    cpu_s = running.usage(pids)[0] - before
    return {
        "requests_per_s": len(times) / took,
        "p50_us": float(np.median(times)) * 1e6,
        "cpu_us": cpu_s / len(times) * 1e6,
        "busy": cpu_s / took / len(running.cores(pids)),
    }


async def _load(senders: Sequence[Send], seconds: float) -> list[float]:
    """Every sender has one request in flight until time is up; at least one request each."""
    end = time.perf_counter() + seconds
    times: list[float] = []

    async def client(send: Send) -> None:
        now = time.perf_counter()
        while True:
            started = now
            await send()
            now = time.perf_counter()
            times.append(now - started)
            if now >= end:
                return

    await asyncio.gather(*map(client, senders))
    return times


def _grpc_sender(channel: Any, method: str, body: bytes) -> Send:
    call = channel.unary_unary(method)

    async def send() -> None:
        await call(body)

    return send


async def _rest_sender(stack: AsyncExitStack, target: str, path: str, body: bytes) -> Send:
    host, port = target.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    stack.callback(writer.close)
    head = f"POST {path} HTTP/1.1\r\nHost: {target}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    wire = head.encode() + body

    async def send() -> None:
        writer.write(wire)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in answer.split(b"\r\n")[0]:
            raise FaceoffError(f"{target} answered {answer.split()[:3]!r}")
        await reader.readexactly(int(answer.partition(b"content-length: ")[2].split(b"\r\n")[0]))

    return send


def _shown(row: dict[str, Any]) -> list[str]:
    names = ("over_empty", "over_in_process", "rate_over_aio", "aio_cpu_over")
    ratios = ["" if row[name] is None else f"{row[name]:.2f}" for name in names]
    words = [str(row[name]) for name in SHAPE_OF_ROW]
    figures = [f"{row['requests_per_s']:.0f}", f"{row['p50_us']:.0f}", f"{row['cpu_us']:.0f}", f"{row['busy']:.2f}"]
    return [*words, *figures, *ratios]


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.bench`."""
    parser = cli.Parser(prog="python -m serving.bench", description=__doc__)
    parser.add_model()
    parser.add_argument("--version", type=cli.positive_int, default=1, help="version of the servables (default: %(default)s)")
    parser.add_argument("--tuning", default="default", help="settings in presets/servers (default: %(default)s)")
    parser.add_argument("--cores", default="", help="cores of the servers, like 0-2,4 (default: all but the generator's)")
    parser.add_argument(
        "--transports", default="core", help="of the embedded server's gRPC, like core,aio (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=cli.positive_int, default=1, help="windows of each shape (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, bench, argv)


if __name__ == "__main__":
    raise SystemExit(main())
