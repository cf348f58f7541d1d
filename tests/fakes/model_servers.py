"""Small servers of known behaviour that speak TF Serving's REST row format and its gRPC Predict, one process for both.

    with model_servers.running("right") as servers:      # servers.rest_url, servers.grpc_target
        ...

`python -m tests.fakes.model_servers BEHAVIOUR` prints one JSON line with its ports and serves until it is stopped. The
model is `logits = images @ WEIGHTS`. Every EVERYth request of a protocol is treated as the behaviour says:

    right   nothing happens                     error   HTTP 503, gRPC UNAVAILABLE
    wrong   one logit is 1 too large            drop    the connection is closed without an answer (REST)
    stall   everything waits for STALL_S        broken  the answer is no document at all
    swap    requests with as many rows that are there at once get each other's answer (every one, not every EVERYth)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceoff import golden, manifest, processes
from faceoff.endpoints import Endpoint
from faceoff.endpoints import write as write_endpoints
from faceoff.golden import Golden
from faceoff.signature import image_classifier
from faceoff.store import Store

EVERY = 10
STALL_S = 0.2
BEHAVIOURS = ("right", "wrong", "error", "drop", "stall", "broken", "swap")
SIGNATURE = image_classifier((2, 2, 1), 3)
WEIGHTS = (np.arange(12, dtype=np.float32).reshape(4, 3) - 5) / 4


def logits(images: np.ndarray) -> np.ndarray:
    """What the fake model computes."""
    return (images.reshape(len(images), 4) @ WEIGHTS).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where a running fake listens."""

    rest_url: str
    grpc_target: str
    pid: int


@contextlib.contextmanager
def running(behaviour: str) -> Iterator[Servers]:
    """A fake on free ports, in a process of its own that is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.model_servers", behaviour],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=processes.environment(),
        preexec_fn=processes.die_with_parent,  # noqa: PLW1509
    )
    try:
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        yield Servers(rest_url=f"http://127.0.0.1:{ports['rest']}", grpc_target=f"127.0.0.1:{ports['grpc']}", pid=process.pid)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def deploy(store: Store, servers: Servers, *, server: str = "tfserving-embedded", num_rows: int = 16) -> Endpoint:
    """Write the artifacts and the endpoints.json that a load test reads, as the stages before it would have."""
    model = store.model_dir("cnn")
    images = np.random.default_rng(7).standard_normal((num_rows, 2, 2, 1)).astype(np.float32)
    golden.write(model / "golden", Golden(inputs={"images": images}, outputs={"logits": logits(images)}))
    manifest.write(model, stage="train", model="cnn", config={"signature": SIGNATURE.to_dict()})
    export = store.export_dir("cnn", 1)
    export.mkdir(parents=True, exist_ok=True)
    manifest.write(export, stage="export", model="cnn")
    endpoint = Endpoint(
        server=server,
        model="cnn",
        version=1,
        rest_url=servers.rest_url,
        grpc_target=servers.grpc_target,
        metrics_url=None,
        device="cpu",
        settings={"fake": True},
        artifact_format="savedmodel",
        precision="float32",
        tolerance=1e-4,
        implementation="tests.fakes.model_servers",
        export_sha256=manifest.sha256(export / manifest.NAME),
        pids=[servers.pid],
    )
    write_endpoints(store.endpoints, [endpoint])
    return endpoint


class _Model:
    """The behaviour, counted for each protocol apart."""

    def __init__(self, behaviour: str) -> None:
        self.behaviour = behaviour
        self.seen = {"rest": 0, "grpc": 0}
        self.stalled_until = 0.0
        self.waiting: dict[tuple[str, int], tuple[np.ndarray, asyncio.Future[np.ndarray]]] = {}

    async def predict(self, protocol: str, images: np.ndarray) -> np.ndarray | None:
        """The logits; None where the behaviour strikes and is not about them."""
        self.seen[protocol] += 1
        strikes = self.seen[protocol] % EVERY == 0
        loop = asyncio.get_running_loop()
        if self.behaviour == "stall":
            if self.seen[protocol] % (EVERY * EVERY) == 0:
                self.stalled_until = loop.time() + STALL_S
            await asyncio.sleep(max(0.0, self.stalled_until - loop.time()))
        if self.behaviour == "swap":
            return await self._swap((protocol, len(images)), images)
        found = logits(images)
        if strikes and self.behaviour == "wrong":
            found[0, 0] += 1
        return None if strikes and self.behaviour in ("error", "drop", "broken") else found

    async def _swap(self, kind: tuple[str, int], images: np.ndarray) -> np.ndarray:
        """What a batching server that confuses its rows answers: right to a request that nobody joins in STALL_S."""
        if kind in self.waiting:
            others, answer = self.waiting.pop(kind)
            answer.set_result(logits(images))
            return logits(others)
        answer = asyncio.get_running_loop().create_future()
        self.waiting[kind] = (images, answer)
        done, _ = await asyncio.wait([answer], timeout=STALL_S)
        if done:
            return answer.result()
        del self.waiting[kind]
        return logits(images)


async def _rest(model: _Model, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
            body = await reader.readexactly(int(fields["Content-Length"]))
            found = await model.predict("rest", np.asarray(json.loads(body)["instances"], dtype=np.float32))
            status, answer = "200 OK", b""
            if found is not None:
                answer = json.dumps({"predictions": found.tolist()}).encode()
            elif model.behaviour == "error":
                status = "503 Service Unavailable"
            elif model.behaviour == "broken":
                answer = b"not a document"
            else:
                break
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _serve(behaviour: str) -> None:
    import grpc

    from serving import tfs_stubs as tfs

    model = _Model(behaviour)

    async def predict(request: Any, context: Any) -> Any:
        tensor = request.inputs["images"]
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        values = np.frombuffer(tensor.tensor_content, dtype="<f4") if tensor.tensor_content else np.float32(tensor.float_val)
        found = await model.predict("grpc", values.reshape(shape))
        if found is None and model.behaviour == "broken":
            return tfs.predict_pb2.PredictResponse()
        if found is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "behaves like that")
        response = tfs.predict_pb2.PredictResponse()
        output = response.outputs["logits"]
        output.dtype = tfs.types_pb2.DT_FLOAT
        for size in found.shape:
            output.tensor_shape.dim.add(size=size)
        output.float_val.extend(found.ravel().tolist())
        return response

    _, service, method = tfs.PREDICT.split("/")
    handler = grpc.unary_unary_rpc_method_handler(
        predict,
        request_deserializer=tfs.predict_pb2.PredictRequest.FromString,
        response_serializer=tfs.predict_pb2.PredictResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    rest = await asyncio.start_server(lambda r, w: _rest(model, r, w), "127.0.0.1", 0)
    print(json.dumps({"rest": rest.sockets[0].getsockname()[1], "grpc": grpc_port}), flush=True)  # noqa: T201
    await server.wait_for_termination()


if __name__ == "__main__":
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:-1] or cores)
    asyncio.run(_serve(sys.argv[1]))
