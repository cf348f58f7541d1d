"""A server added by docs/adding-a-server.md: one module like this one, and one line in serving/servers/__init__.py.

It speaks TensorFlow Serving's REST and gRPC API and answers a row of the golden set or the test set with the output on disk.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from faceoff import evaluation, servables
from faceoff.endpoints import Endpoint
from faceoff.store import Store
from serving import metrics
from serving.client import get_json
from serving.lifecycle import HOST, Launch, Served, Server
from serving.metrics import ServerMetrics


class Added(Server):
    """A table of answers behind a few lines of HTTP and gRPC."""

    name = "added"
    artifact_format = "onnx"  # whose servables decode no images
    standard_ports: ClassVar = {"added rest": 9100, "added grpc": 9101}

    @classmethod
    def check(cls) -> None:
        """Nothing to find."""

    @classmethod
    def settings(cls, tuning: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {"tuning": tuning}

    def launch(self) -> Launch:
        served = self.job.served[0]
        artifacts = served.artifact.parents[3]
        ports = [str(self.ports["added rest"]), str(self.ports["added grpc"])]
        return Launch(argv=[sys.executable, "-m", "tests.fakes.added_server", *ports, served.model, str(artifacts)])

    def endpoint(self, served: Served) -> Endpoint:
        rest_url = f"http://{HOST}:{self.ports['added rest']}"
        return Endpoint(
            server=self.name,
            model=served.model,
            version=served.version,
            rest_url=rest_url,
            grpc_target=f"{HOST}:{self.ports['added grpc']}",
            metrics_url=f"{rest_url}/metrics",
            device=self.job.device,
            settings={**self.job.settings, "cores": list(self.job.cores)},
            artifact_format=self.job.artifact_format,
            precision=served.precision,
            tolerance=served.tolerance,
            implementation="a server of the tests",
            export_sha256=served.export_sha256,
            pids=[self.owned.pid] if self.owned else [],
        )

    @classmethod
    def is_ready(cls, endpoint: Endpoint) -> bool:
        return get_json(f"{endpoint.rest_url}/ready") == {"model": endpoint.model}

    @classmethod
    def reported(cls, endpoint: Endpoint) -> dict[str, Any]:
        return get_json(f"{endpoint.rest_url}/settings") or {}

    @classmethod
    def metrics(cls, endpoint: Endpoint) -> ServerMetrics:
        assert endpoint.metrics_url
        return ServerMetrics(requests=metrics.read(endpoint.metrics_url).total("added_requests"))


def main() -> None:
    """Serve: a row is answered by the output of the row it equals."""
    import grpc

    from serving import tfs_stubs as tfs

    rest_port, grpc_port, model, artifacts = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    trained = servables.read_trained(Store(artifacts=artifacts), model)
    known = {}
    for rows in (evaluation.read(trained).rows, trained.golden):
        (inputs,), (outputs,) = rows.inputs.values(), rows.outputs.values()
        known |= {row.tobytes(): output for row, output in zip(inputs, outputs, strict=True)}
    count = [0]

    def answer(rows: np.ndarray) -> np.ndarray:
        count[0] += 1
        return np.stack([known[row.tobytes()] for row in rows])

    class Rest(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            pages = {
                "/ready": json.dumps({"model": model}),
                "/settings": '{"answers": "known rows"}',
                "/metrics": f"added_requests {count[0]}\n",
            }
            self._send(pages[self.path].encode())

        def do_POST(self) -> None:
            rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
            self._send(json.dumps({"predictions": answer(np.asarray(rows, np.float32)).tolist()}).encode())

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    class Predict(tfs.prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802
            (tensor,) = request.inputs.values()
            shape = [dim.size for dim in tensor.tensor_shape.dim]
            sent = tensor.tensor_content or np.asarray(tensor.float_val, np.float32).tobytes()
            found = answer(np.frombuffer(sent, np.float32).reshape(shape))
            response = tfs.predict_pb2.PredictResponse()
            out = response.outputs["logits"]
            out.dtype, out.tensor_content = tfs.types_pb2.DT_FLOAT, found.tobytes()
            for size in found.shape:
                out.tensor_shape.dim.add(size=size)
            return response

    server = grpc.server(ThreadPoolExecutor(2))
    tfs.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predict(), server)
    server.add_insecure_port(f"{HOST}:{grpc_port}")
    server.start()
    ThreadingHTTPServer((HOST, rest_port), Rest).serve_forever()


if __name__ == "__main__":
    main()
