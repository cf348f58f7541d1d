"""A stand-in for the executable `tensorflow_model_server`: it checks its flags and files, then answers right or wrong.

`install(folder, "right")` writes a program that can be named by TENSORFLOW_MODEL_SERVER. Its flags are those that deploy
is known to pass; any other is an error, as for the real one, and so is a configuration file that does not hold what it
must. `right` then behaves as the contract says: it becomes `python -m serving.embedded` with the same flags. `wrong` is
AVAILABLE and answers zeros of the right shape, so that a deploy which believes it is a defect.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CLASSES = 10
MODES = ("right", "wrong")


def install(folder: Path, mode: str = "wrong") -> Path:
    """Write the program; returns its path."""
    assert mode in MODES
    program = folder / "tensorflow_model_server"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.fakes.tensorflow_model_server {mode} "$@"\n')
    program.chmod(0o755)
    return program


def flags(argv: list[str]) -> argparse.Namespace:
    """The flags that deploy passes, and the files they name, checked."""
    if argv == ["--version"]:
        print("TensorFlow ModelServer: 0.0.0-fake")  # noqa: T201
        raise SystemExit(0)
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rest_api_port", type=int, required=True)
    parser.add_argument("--model_config_file", type=Path, required=True)
    parser.add_argument("--monitoring_config_file", type=Path, required=True)
    parser.add_argument("--grpc_max_threads", type=int, required=True)
    parser.add_argument("--tensorflow_intra_op_parallelism", type=int)
    parser.add_argument("--tensorflow_inter_op_parallelism", type=int)
    parser.add_argument("--allow_version_labels_for_unavailable_models", choices=["true"])
    parser.add_argument("--enable_grpc_healthcheck_service", choices=["true"])
    parser.add_argument("--enable_batching", choices=["true"])
    parser.add_argument("--batching_parameters_file", type=Path)
    args = parser.parse_args(argv)
    assert all("=" in word for word in argv), "the real one takes --name=value only"
    models = args.model_config_file.read_text()
    for base_path in re.findall(r'base_path: "(.*)"', models):
        assert Path(base_path).is_absolute()
        found = {path.name for path in Path(base_path).iterdir() if (path / "saved_model.pb").is_file()}
        assert found and all(name.isdigit() for name in found)
    assert 'model_platform: "tensorflow"' in models
    assert "model_version_policy" in models
    # The real one refuses labels of versions that are not loaded yet, unless this flag is there.
    assert ("version_labels" in models) == (args.allow_version_labels_for_unavailable_models == "true")
    assert "prometheus_config { enable: true path:" in args.monitoring_config_file.read_text()
    assert (args.batching_parameters_file is None) == (args.enable_batching is None)
    if args.batching_parameters_file:
        text = args.batching_parameters_file.read_text()
        sizes = [int(size) for size in re.findall(r"allowed_batch_sizes: (\d+)", text)]
        most = re.search(r"max_batch_size { value: (\d+) }", text)
        assert most and sizes == sorted(set(sizes)) and sizes[-1] == int(most[1])
    return args


class Rest(BaseHTTPRequestHandler):
    """Status and predict."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"model_version_status": [{"version": "1", "state": "AVAILABLE"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer({"predictions": [[0.0] * CLASSES for _ in body["instances"]]})

    def _answer(self, document: dict) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    mode, argv = sys.argv[1], sys.argv[2:]
    args = flags(argv)
    if mode == "right":
        os.execv(sys.executable, [sys.executable, "-m", "serving.embedded", *argv])
    import grpc

    from serving import tfs_stubs as tfs

    class Status(tfs.model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):  # noqa: N802
            answer = tfs.get_model_status_pb2.GetModelStatusResponse()
            answer.model_version_status.add(version=1, state=tfs.get_model_status_pb2.ModelVersionStatus.AVAILABLE)
            return answer

    server = grpc.server(ThreadPoolExecutor(2))
    tfs.model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(), server)
    server.add_insecure_port(f"127.0.0.1:{args.port}")
    server.start()
    ThreadingHTTPServer(("127.0.0.1", args.rest_api_port), Rest).serve_forever()


if __name__ == "__main__":
    main()
