"""The life of a server under test, the same for every implementation: start, wait_ready, describe, metrics, stop.

An implementation (serving/servers/; docs/adding-a-server.md) says what it needs and how it is asked; this module
owns the process: it is pinned to the servers' cores, logs to a file, and is known again (serving/owned.py), so that
`undeploy` stops exactly what `deploy` started. What is asked of a running server takes its endpoint alone, so that
`status`, another process than `deploy`, asks the same questions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from faceoff import presets, processes
from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError
from faceoff.signature import Signature
from serving import logs, rotate, running
from serving import settings as settings_
from serving.metrics import ServerMetrics
from serving.owned import Owned
from serving.placement import HOST, choose_ports
from serving.running import Compute, Running

__all__ = ["HOST", "Job", "Launch", "Owned", "Served", "Server", "choose_ports"]

START_DEADLINE_S = 180.0  # of one model version; each further one, which may be a worker that imports torch, has MORE_S
MORE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """One version of one model that a server is to serve. `artifact` is absolute; `tolerance` is the endpoint's."""

    model: str
    version: int
    artifact: Path
    export_sha256: str
    signature: Signature
    precision: str
    tolerance: float


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one server is to serve and how. `workdir` (absolute) holds its configuration and logs."""

    served: tuple[Served, ...]
    artifact_format: str
    settings: dict[str, Any]
    cores: tuple[int, ...]
    device: str
    workdir: Path
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def models(self) -> dict[str, list[Served]]:
        """The versions of each model, in the order they were asked for."""
        found: dict[str, list[Served]] = {}
        for one in self.served:
            found.setdefault(one.model, []).append(one)
        return found


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A command line, what to add to the environment, the folder to start in, one that is removed when the server has ended."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    temporary: Path | None = None


class Server(ABC):
    """One server process and the models it serves. Instances are made by deploy, with every port already chosen."""

    name: ClassVar[str]
    artifact_format: ClassVar[str]  # the servable it takes (`servable_format` where a setting chooses it)
    standard_ports: ClassVar[Mapping[str, int]]  # what each port is for, and its usual number
    schema: ClassVar[Mapping[str, settings_.Kind]] = {}  # the settings it understands

    def __init__(self, job: Job, ports: Mapping[str, int]) -> None:
        self.job = job
        self.ports = dict(ports)
        self.process: subprocess.Popen[bytes] | None = None
        self.writer: subprocess.Popen[bytes] | None = None
        self.owned: Owned | None = None

    # What an implementation says.

    @classmethod
    @abstractmethod
    def check(cls) -> None:
        """Raise UsageError when this machine cannot start the server (a missing program, say)."""

    @abstractmethod
    def launch(self) -> Launch:
        """Write the server's configuration under job.workdir and return how to start it."""

    @abstractmethod
    def endpoint(self, served: Served) -> Endpoint:
        """Where one model version is reached; nothing is asked of the server."""

    @classmethod
    @abstractmethod
    def is_ready(cls, endpoint: Endpoint) -> bool:
        """Ask the running server whether the *model version* answers, on every protocol. Never raises for 'not yet'."""

    @classmethod
    def reported(cls, endpoint: Endpoint) -> dict[str, Any]:
        """The settings in force, as the server itself reports them; {} where it reports none."""
        return {}

    @classmethod
    def compute(cls, endpoint: Endpoint) -> Compute:
        """What computes the model version, as the running server tells; what it does not tell stays None."""
        return Compute()

    @classmethod
    def metrics(cls, endpoint: Endpoint) -> ServerMetrics:
        """The server's own metrics in the common definition. Raises FaceoffError when they cannot be read."""
        return ServerMetrics()

    @classmethod
    def waiting(cls, endpoint: Endpoint) -> int | None:
        """Accepted requests that wait now and that a stop may leave without an answer; None where the server does not tell."""
        return None

    @classmethod
    def settings(cls, tuning: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings called `tuning`, those of presets/servers/<name>.yaml, with `overrides` over them; both on record.

        Raises UsageError for an unknown name or value.
        """
        preset, changed = presets.server(cls.name, tuning).settings, dict(overrides or {})
        return {"tuning": tuning, "overrides": changed, **settings_.merged(cls.name, preset, changed, cls.schema)}

    @classmethod  # noqa: B027  most have nothing to refuse
    def check_job(cls, job: Job) -> None:
        """Raise UsageError for what the server, with these settings, cannot serve."""

    @classmethod
    def servable_format(cls, settings: Mapping[str, Any]) -> str:
        """The format (of export's manifest) that is served with these settings."""
        return cls.artifact_format

    @classmethod
    def log_files(cls, workdir: Path) -> list[Path]:
        """Every log the server writes, the last older one too."""
        return [workdir / "server.log", rotate.older(workdir / "server.log", 1)]

    # What is made of that.

    @classmethod
    def running(cls, endpoint: Endpoint) -> Running:
        """What the server is now, from itself and from /proc.

        Raises FaceoffError when its process has ended, or is none of this machine's that we may look at.
        """
        if not endpoint.pids:
            raise FaceoffError(f"{endpoint.server} has no process here (a container's?): expected one to read /proc of")
        pids = running.tree(endpoint.pids[0])
        compute = cls.compute(endpoint)
        computing = [pid for pid in compute.pids if pid in pids] or list(pids)
        cpu_s, rss_bytes = running.usage(pids)
        return Running(
            server=endpoint.server,
            model=endpoint.model,
            version=endpoint.version,
            pids=pids,
            cores=running.cores(pids),
            num_threads=running.num_threads(pids),
            cpu_s=cpu_s,
            rss_bytes=rss_bytes,
            compute=compute,
            compute_threads=running.num_threads(computing),
            allocator=running.allocator(computing),
            environment=running.environment(computing[0]),
            warmup_requests=int(endpoint.settings.get("warmed_up", 0)),
        )

    @property
    def log(self) -> Path:
        """Where stdout and stderr of the process go, by way of `serving.rotate`."""
        return self.job.workdir / "server.log"

    def start(self) -> Owned:
        """Start the process, pinned to the job's cores, in a session of its own (a Ctrl-C is ours to handle)."""
        self.job.workdir.mkdir(parents=True, exist_ok=True)
        launch = self.launch()
        cores = set(self.job.cores)
        self.log.touch()
        read, write = os.pipe()
        try:
            self.writer = subprocess.Popen(
                [sys.executable, "-S", "-m", "serving.rotate", str(self.log), *filter(None, [str(launch.temporary or "")])],
                stdin=read,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=processes.environment(),
                start_new_session=True,
            )
            self.process = subprocess.Popen(
                launch.argv,
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=subprocess.STDOUT,
                cwd=launch.cwd,
                env=processes.environment(launch.env),
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509  no thread runs here yet
            )
        finally:
            os.close(read)
            os.close(write)
        pid = self.process.pid
        self.owned = Owned(server=self.name, pid=pid, started=processes.started(pid) or "", log=str(self.log))
        return self.owned

    def wait_ready(self, deadline_s: float | None = None) -> None:
        """Poll until every model version answers; `deadline_s` is START_DEADLINE_S, and MORE_S for every further one.

        Raises FaceoffError, with the log's end, when the process ends or time is up.
        """
        assert self.process is not None
        if deadline_s is None:
            deadline_s = START_DEADLINE_S + MORE_S * (len(self.job.served) - 1)
        deadline = time.monotonic() + deadline_s
        waiting = [self.endpoint(served) for served in self.job.served]
        while time.monotonic() < deadline:
            code = self.process.poll()
            if code is not None:
                raise FaceoffError(f"{self.name} ended with exit code {code} while starting; {self.log}: {self.last_words()}")
            waiting = [endpoint for endpoint in waiting if not self.is_ready(endpoint)]
            if not waiting:
                return
            time.sleep(0.1)
        names = ", ".join(f"{endpoint.model} version {endpoint.version}" for endpoint in waiting)
        raise FaceoffError(f"{self.name} did not answer for {names} within {deadline_s:.0f} s; {self.log}: {self.last_words()}")

    def describe(self) -> list[Endpoint]:
        """One endpoint a model version, with the implementation's version and the settings in force."""
        return [self.endpoint(served) for served in self.job.served]

    def stop(self) -> None:
        """Stop the process and its descendants; twice is no error."""
        if self.process is not None:
            if self.process.poll() is None:  # a child of ours that nobody has waited for: the pid is its own
                processes.stop_tree(self.process.pid)
            self.process.wait()
        self._written()

    def _written(self) -> None:
        """Wait until the output of the process that has ended is in the log; a descendant that goes on holds it open."""
        if self.writer is not None:
            with suppress(subprocess.TimeoutExpired):
                self.writer.wait(timeout=5)

    def last_words(self) -> str:
        """The last lines of the logs, a fault before anything else."""
        if self.process is not None and self.process.poll() is not None:
            self._written()
        return logs.last_fault(self.log_files(self.job.workdir)) or logs.last_words(self.log)
