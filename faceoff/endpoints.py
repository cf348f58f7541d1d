"""endpoints.json: what is deployed, written by deploy, read by every stage that talks to a server."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faceoff.errors import CorruptError, MissingStageError, unknown
from faceoff.store import Store, write_atomic


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One model behind one server.

    `rest_url` is the server's base URL (http://127.0.0.1:8080); serving/protocols.py knows the path under
    it. `settings` holds what the server was started with, `export_sha256` which artifacts it serves. An answer is right
    within `tolerance` (absolute) of the golden outputs; a lower `precision` than float32 has a wider one.
    """

    server: str  # torchserve | tfserving | tfserving-embedded | ...
    model: str
    version: int
    rest_url: str
    grpc_target: str
    metrics_url: str | None
    device: str
    settings: dict[str, Any]
    artifact_format: str
    precision: str  # float32 | bf16 | float16 | int8; "" where nothing is known of it
    tolerance: float
    implementation: str  # e.g. "TorchServe 0.12.0"
    export_sha256: str
    pids: list[int] = field(default_factory=list)
    container: str | None = None  # its name, where it runs in one
    management_url: str | None = None  # where a server that has such an API tells of its settings


def nowhere(server: str, model: str, version: int, artifact_format: str = "") -> Endpoint:
    """An endpoint of a kind of server that is encoded for and never called."""
    return Endpoint(
        server=server,
        model=model,
        version=version,
        rest_url="",
        grpc_target="",
        metrics_url=None,
        device="cpu",
        settings={},
        artifact_format=artifact_format,
        precision="",
        tolerance=0.0,
        implementation="",
        export_sha256="",
    )


def write(path: Path, endpoints: list[Endpoint]) -> None:
    """Write the list, all or nothing."""
    write_atomic(path, json.dumps([asdict(endpoint) for endpoint in endpoints], indent=2) + "\n")


def read(store: Store, *, model: str | None = None, servers: list[str] | None = None) -> list[Endpoint]:
    """The deployed endpoints, of one model and of some servers where those are named.

    `tfserving` in `servers` stands for the real one where it is deployed, else for the embedded one.
    Raises MissingStageError when nothing fitting is deployed, CorruptError for an unreadable file.
    """
    command = f"make deploy MODEL={model or 'cnn'}"
    if not store.endpoints.exists():
        raise MissingStageError(f"found no {store.endpoints}: expected deployed servers; run: {command}")
    try:
        found = [Endpoint(**item) for item in json.loads(store.endpoints.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise CorruptError(f"{store.endpoints} is not a list of endpoints ({error}); run again: {command}") from error
    found = [endpoint for endpoint in found if model in (None, endpoint.model)]
    if not found:
        raise MissingStageError(f"{store.endpoints} has no endpoint of model {model!r}; run: {command}")
    if servers is None:
        return found
    chosen = []
    for name in servers:
        matches = [endpoint for endpoint in found if endpoint.server == name]
        if not matches and name == "tfserving":
            matches = [endpoint for endpoint in found if endpoint.server == "tfserving-embedded"]
        if not matches:
            raise unknown("deployed server", name, [endpoint.server for endpoint in found], "SERVERS")
        chosen += [endpoint for endpoint in matches if endpoint not in chosen]
    return chosen
