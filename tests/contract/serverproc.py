"""A server of the contract as a process: the embedded one, or the real binary named by TENSORFLOW_MODEL_SERVER."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceoff.processes import die_with_parent, environment, stop_tree

HERE = Path(__file__).resolve().parent
START_TIMEOUT_S = 180.0  # a busy machine imports TensorFlow slowly
REAL = os.environ.get("TENSORFLOW_MODEL_SERVER", "")


@dataclass(kw_only=True)
class Server:
    """A running server; `log` holds what it wrote."""

    process: subprocess.Popen[bytes]
    port: int
    rest_port: int
    log: Path
    model_base: str
    flags: list[str] = field(default_factory=list)

    def channel(self) -> Any:
        """A gRPC channel that takes answers of up to 4 MB, as a plain client does."""
        import grpc

        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1)])

    def get(self, path: str) -> tuple[int, bytes]:
        """A GET over REST."""
        return self.request("GET", path)

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """A POST over REST."""
        return self.request("POST", path, body)

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=60)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def unpack_models(folder: Path) -> Path:
    """The small models of the recordings, in a folder of the test's own."""
    with tarfile.open(HERE / "models.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def named_flags(server: str, model_base: Path, folder: Path) -> list[str]:
    """The flags of servers.json for `server`, with the configuration written to `folder`."""
    (folder / "models.config").write_text((HERE / "models.config.in").read_text().replace("{MODEL_BASE}", str(model_base)))
    for name in ("batching.config", "monitoring.config"):
        (folder / name).write_text((HERE / name).read_text())
    flags = json.loads((HERE / "servers.json").read_text())["main" if server == "main-fresh" else server]
    return [flag.replace("{CFG}", str(folder)).replace("{MODEL_BASE}", str(model_base)) for flag in flags]


def command(flags: list[str]) -> list[str]:
    """The command line of either implementation."""
    return [REAL, *flags] if REAL else [sys.executable, "-m", "serving.embedded", *flags]


def spawn(flags: list[str], model_base: Path, *, ports: list[int] | None = None) -> Server:
    """Start a server and do not wait."""
    port, rest_port = ports or free_ports(2)
    with tempfile.NamedTemporaryFile(prefix="tfserving-embedded-", suffix=".log", delete=False) as log:
        process = subprocess.Popen(
            command([f"--port={port}", f"--rest_api_port={rest_port}", *flags]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        path = Path(log.name)
    return Server(process=process, port=port, rest_port=rest_port, log=path, model_base=str(model_base), flags=flags)


def wait_ready(server: Server, model: str) -> None:
    """Return when `model` answers over REST; fail with the log where the process ends first."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.get(f"/v1/models/{model}")[0] == 200:
                return
        if server.process.poll() is not None or time.monotonic() > deadline:
            stop(server)
            raise AssertionError(f"the server did not come up:\n{server.log.read_text()[-4000:]}")
        time.sleep(0.1)


def stop(server: Server) -> None:
    """End the process, whatever state it is in."""
    if server.process.poll() is None:
        stop_tree(server.process.pid)
    server.process.wait()


@contextlib.contextmanager
def running(flags: list[str], model_base: Path, model: str) -> Iterator[Server]:
    """A server that is ready; stopped at the end, its log deleted."""
    server = spawn(flags, model_base)
    try:
        wait_ready(server, model)
        yield server
    finally:
        stop(server)
        server.log.unlink(missing_ok=True)
