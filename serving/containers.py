"""Servers in containers: what each is given, which stack runs now, how it is taken down.

TARGET=compose and TARGET=k8s (containers_compose.py, containers_k8s.py) differ in who starts the containers and in nothing that a
server sees. `stage` writes that, from the jobs that TARGET=local would start as processes:

    <folder>/models/torchserve/   cnn-1.mar, probes/cnn.json, SHA256SUMS         mounted at /models
    <folder>/models/tfserving/    cnn/1/saved_model.pb …, probes/, SHA256SUMS    the same for both kinds of TensorFlow Serving
    <folder>/torchserve/          config.properties, environment                 mounted at /config
    <folder>/tfserving/           models.config, monitoring.config, environment, flags (and batching.config)
    <folder>/targets/             Prometheus's targets, one file a server

The ports inside a container are the standard ones; the ports in endpoints.json are those on this machine's loopback.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from faceoff import endpoints, manifest, progress
from faceoff.endpoints import Endpoint
from faceoff.errors import CorruptError, FaceoffError, UsageError, unknown
from faceoff.servables import Trained
from faceoff.store import Store, write_atomic
from serving import protocols
from serving.lifecycle import Job, Server
from serving.servers import server_class
from serving.servers.torchserve import TorchServe
from serving.tfserving import config
from serving.torchserve import config as torchserve_config

TARGETS = ("local", "compose", "k8s")
ANYWHERE = "0.0.0.0"  # noqa: S104  inside a container; what is published of it is on loopback
ALLOCATORS = {"jemalloc": "libjemalloc.so.2"}  # in serving/torchserve/Dockerfile; the dynamic linker finds it
METRICS = {"torchserve": (8082, "/metrics"), "tfserving": (8501, config.METRICS_PATH)}


@dataclass(frozen=True, kw_only=True)
class Running:
    """A stack that deploy started: how to take it down, also from another process."""

    target: str
    servers: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    owner: str = ""  # TARGET=k8s: what its namespace is marked with
    asks: list[str] = field(default_factory=list)  # TARGET=k8s: a command line that prints the namespace
    down: list[list[str]] = field(default_factory=list)  # command lines


class Stack(Protocol):
    """Who starts the containers."""

    def resolve(self, servers: str) -> list[str]:
        """The servers to start. Raises UsageError."""
        ...

    def check(self, names: Sequence[str], device: str) -> None:
        """Raise UsageError where this machine cannot start them."""
        ...

    def bring_up(self, store: Store, servers: Sequence[Server], trained: Mapping[str, Trained]) -> list[Endpoint]:
        """Start, wait until every model version answers, describe. Raises FaceoffError with the containers' last words."""
        ...


def stack(target: str) -> Stack | None:
    """The stack of TARGET=compose|k8s, None for local. Raises UsageError for another name."""
    if target == "compose":
        from serving.containers_compose import Compose

        return Compose()
    if target == "k8s":
        from serving.containers_k8s import Kubernetes

        return Kubernetes()
    if target != "local":
        raise unknown("target", target, list(TARGETS), "TARGET")
    return None


def remember(store: Store, running: Running) -> None:
    """Record the stack before it is started: whatever happens to deploy, `undeploy` finds it."""
    write_atomic(store.deploy_dir / "stack.json", json.dumps(asdict(running), indent=2) + "\n")


def running(store: Store) -> Running | None:
    """The stack of the last deploy, None where there is none."""
    path = store.deploy_dir / "stack.json"
    if not path.exists():
        return None
    try:
        return Running(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CorruptError(
            f"{path} does not say which containers deploy started ({error}); stop what is left of them, then delete the file"
        ) from error


def take_down(store: Store, *, forget: bool = False) -> list[str]:
    """Take down the stack of the last deploy, if there is one, and forget it; returns its servers' names.

    Where a command fails: raises FaceoffError and does not forget; with `forget` says so, forgets and returns [].
    """
    found = running(store)
    if found is None:
        return []
    path, stopped = store.deploy_dir / "stack.json", found.servers
    try:
        if found.target == "k8s":
            from serving.containers_k8s import require_ours

            require_ours(found)
        for argv in found.down:
            command(argv, found.environment, f"take down the servers of TARGET={found.target}")
    except FaceoffError as error:
        if not forget:
            raise type(error)(
                f"{error}; they are still on record ({path}): run make undeploy again when they can be reached, or, when they "
                f"have gone for good: python -m serving.undeploy --forget --artifacts {store.artifacts}"
            ) from error
        progress.say(f"undeploy: {error}; forgotten all the same")
        stopped = []
    path.unlink()
    return stopped


def command(argv: Sequence[str], environment: Mapping[str, str], purpose: str, *, stdin: Path | None = None) -> str:
    """Run a tool, its stderr ours; returns its stdout. Raises FaceoffError that says what could not be done."""
    with (stdin or Path(os.devnull)).open("rb") as given:
        try:
            done = subprocess.run(argv, env={**os.environ, **environment}, stdin=given, stdout=subprocess.PIPE, check=False)
        except OSError as error:
            raise FaceoffError(f"could not {purpose}: {argv[0]} cannot be started ({error.strerror})") from error
    if done.returncode != 0:
        raise FaceoffError(f"could not {purpose}: `{' '.join(argv[:3])} …` ended with exit code {done.returncode}; see above")
    return done.stdout.decode(errors="replace")


def service(name: str) -> str:
    """The folder and container of a server: both kinds of TensorFlow Serving take the same place."""
    return "torchserve" if name == "torchserve" else "tfserving"


def stage(folder: Path, jobs: Mapping[str, Job], trained: Mapping[str, Trained]) -> None:
    """Write what the servers of `jobs` are given (module docstring), in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, job in jobs.items():
        place = service(name)
        for each in (folder / place, folder / "models" / place / "probes", folder / "targets"):
            each.mkdir(parents=True, exist_ok=True)
        given = folder / place
        if place == "torchserve":
            (given / "config.properties").write_text(properties(job), encoding="utf-8")
        else:
            (given / "flags").write_text("\n".join(flags(job, given)) + "\n", encoding="utf-8")
        (given / "environment").write_text("".join(f"{k}={v}\n" for k, v in environment(name, job).items()), encoding="utf-8")
        _copy_models(folder / "models" / place, name, job, trained)
        write_atomic(folder / "targets" / f"{place}.json", json.dumps([scrape(name)], indent=2) + "\n")
    for path in [folder, *folder.rglob("*")]:  # any user may read it, whatever this one's mask is
        path.chmod(0o755 if path.is_dir() else 0o644)


def properties(job: Job) -> str:
    """TorchServe's config.properties inside a container."""
    return torchserve_config.text(job, TorchServe.standard_ports, ANYWHERE)


def flags(job: Job, folder: Path) -> list[str]:
    """TensorFlow Serving's command line inside a container; the files it names are written into `folder`."""
    models = {model: (Path("/models") / model, [one.version for one in served]) for model, served in job.models.items()}
    config.write_models(folder / "models.config", models, policy=job.settings["version_policy"], labels=job.labels)
    config.write_monitoring(folder / "monitoring.config")
    given: dict[str, Any] = {
        "port": 8500,
        "rest_api_port": 8501,
        "model_config_file": "/config/models.config",
        "monitoring_config_file": "/config/monitoring.config",
    }
    if job.labels:
        given["allow_version_labels_for_unavailable_models"] = True
    if job.settings.get("batching"):
        config.write_batching(folder / "batching.config", job.settings["batching"])
        given |= {"enable_batching": True, "batching_parameters_file": "/config/batching.config"}
    pairs = {**given, **job.settings["flags"]}.items()
    return [_plain(f"--{name}={str(value).lower() if isinstance(value, bool) else value}") for name, value in pairs]


def environment(name: str, job: Job) -> dict[str, str]:
    """What a server's process is told through its environment, the health check's models included."""
    settings = job.settings
    found = {"FACEOFF_MODELS": " ".join(f"{one.model}/{one.version}" for one in job.served)}
    if name == "torchserve":
        found["OMP_NUM_THREADS"] = str(settings["threads_per_worker"] or len(job.cores))
        found["JDK_JAVA_OPTIONS"] = " ".join([f"-XX:ActiveProcessorCount={len(job.cores)}", *map(_plain, settings["jvm_args"])])
        if settings["allocator"]:
            found["LD_PRELOAD"] = ALLOCATORS[settings["allocator"]]
    else:
        found["TF_CPP_MIN_LOG_LEVEL"] = "1"
    found |= {key: _plain(str(value), r"['\"\\$#]|^\s|\s$") for key, value in settings["environment"].items()}
    if job.device == "cpu":
        found["CUDA_VISIBLE_DEVICES"] = ""
    return found


def _plain(word: str, special: str = r"[\s'\"\\$#`;&|<>()]") -> str:
    """The word. Raises UsageError for characters that Compose, Kubernetes and Java each read in a way of their own."""
    if found := re.search(special, word):
        raise UsageError(
            f"settings: found {found[0]!r} in {word!r}, which containers do not hand on as it is; expected none, or TARGET=local"
        )
    return word


def scrape(name: str) -> dict[str, Any]:
    """One target for Prometheus: `server` names who answers, so that ours is never taken for TensorFlow Serving."""
    port, path = METRICS[service(name)]
    return {"targets": [f"{service(name)}:{port}"], "labels": {"__metrics_path__": path, "server": name}}


def wait_ready(found: Sequence[Endpoint], deadline_s: float) -> None:
    """Poll from here until every endpoint answers. Raises FaceoffError."""
    deadline = time.monotonic() + deadline_s
    while waiting := [e for e in found if not server_class(e.server).is_ready(e)]:
        if time.monotonic() > deadline:
            names = ", ".join(f"{e.server} for {e.model} version {e.version}" for e in waiting)
            raise FaceoffError(f"no answer within {deadline_s:.0f} s from {names}")
        time.sleep(0.2)


def _copy_models(folder: Path, name: str, job: Job, trained: Mapping[str, Trained]) -> None:
    """Copies of what is served, a golden row a model for the health check, and their SHA256SUMS."""
    for one in job.served:
        if one.artifact.is_dir():
            shutil.copytree(one.artifact, folder / one.model / str(one.version))
        else:
            shutil.copyfile(one.artifact, folder / torchserve_config.archive_name(one))
        codec = protocols.codec(endpoints.nowhere(name, one.model, one.version), one.signature, "rest", "json")
        (folder / "probes" / f"{one.model}.json").write_bytes(codec.encode(trained[one.model].golden.rows(0, 1).inputs))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{manifest.sha256(path)}  {path.relative_to(folder)}\n" for path in files)
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8")
    progress.say(f"deploy: {len(files)} files for {name} staged in {folder}")
