"""--processes=N: the supervisor's side. It configures, polls, decides and counts; N workers load, listen and answer.

The Manager of the supervisor is the one of a single process: a version is loaded when every worker has loaded it, and what
it decides is published to all before it is said to be AVAILABLE. Any worker answers any request; a reload, and the monitoring
page, are asked of the supervisor. A worker that ends takes the server with it: half a server would answer half the requests.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceoff.processes import die_with_parent
from serving.embedded.config import ModelConfig
from serving.embedded.directory import Known
from serving.embedded.errors import ServingError
from serving.embedded.metrics import Metrics
from serving.embedded.peer import Method, Peer
from serving.embedded.versions import VersionStatus

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a worker must know of one model."""

    config: ModelConfig | None
    served: tuple[int, ...]
    statuses: dict[int, VersionStatus]


@dataclass(frozen=True, kw_only=True)
class RemoteModel:
    """A version that every worker has loaded, as the Manager holds it; also its batcher, which has no work here."""

    fleet: Fleet
    name: str
    version: int

    def close(self) -> None:
        """Let every worker finish and free it. Blocks; called in a thread."""
        asyncio.run_coroutine_threadsafe(self.fleet.all("unload", self.name, self.version), self.fleet.loop).result()

    async def drained(self) -> None:
        """Workers wait for their own requests."""


class Fleet:
    """The workers. `methods` are what they may call: `configure` (a reload) and `metrics` (of all)."""

    def __init__(self, arguments: Sequence[str], count: int, methods: Mapping[str, Method]) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()  # a worker has ended
        self._arguments = arguments
        self._count = count
        self._methods = methods
        self._processes: list[subprocess.Popen[bytes]] = []
        self._peers: list[Peer] = []
        self._runs: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the workers; each imports its engine meanwhile."""
        for number in range(self._count):
            ours, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-m", "serving.embedded.worker", str(theirs.fileno()), str(number + 1)]
                self._processes.append(
                    subprocess.Popen(
                        [*command, *self._arguments],
                        stdin=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno()],
                        preexec_fn=die_with_parent,  # noqa: PLW1509  before any thread
                    )
                )
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            peer = Peer(reader, writer, self._methods)
            self._peers.append(peer)
            self._runs.append(asyncio.create_task(self._run(peer)))

    async def all(self, method: str, *arguments: Any) -> list[Any]:
        """Call every worker; their answers, or the first ServingError when all have answered."""
        done = await asyncio.gather(*(peer.call(method, *arguments) for peer in self._peers), return_exceptions=True)
        for answer in done:
            if isinstance(answer, BaseException):
                raise answer
        return done

    def load(self, name: str, version: int, folder: Path) -> RemoteModel:
        """Load a version in every worker, or in none. Blocks; called in a thread. Raises ServingError."""
        model = RemoteModel(fleet=self, name=name, version=version)
        try:
            asyncio.run_coroutine_threadsafe(self.all("load", name, version, folder), self.loop).result()
        except ServingError:
            model.close()
            raise
        return model

    async def publish(self, models: Mapping[str, Known]) -> None:
        """Tell every worker what it must know; returns when all do. Raises ServingError."""
        known = {
            name: Published(config=model.config, served=tuple(model.served), statuses=dict(model.statuses))
            for name, model in models.items()
        }
        await self.all("publish", known)

    async def metrics(self) -> Metrics:
        """What all workers have measured together."""
        found = Metrics()
        for each in await self.all("measured"):
            found.merge(each)
        return found

    async def stop(self) -> None:
        """Let every worker finish what it accepted, and end."""
        for peer in self._peers:
            peer.close()
        await asyncio.to_thread(lambda: [process.wait() for process in self._processes])

    async def _run(self, peer: Peer) -> None:
        await peer.run()
        self.ended.set()
