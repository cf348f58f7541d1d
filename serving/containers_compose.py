"""TARGET=compose: both servers as containers on this machine, by Docker Compose (serving/compose/compose.yaml).

deploy builds the images (Docker's cache makes that a second when nothing changed), stages models and configuration in
artifacts/deploy/compose/, brings the services up and waits for their health checks. The load generator stays outside and reaches
them through Docker's loopback proxy, the same for both servers; docs/containers.md says what that costs.

Read from the environment: DOCKER=<path of the client>, TORCH_INDEX=<index of CPU wheels>, PIP_CERT=<CA bundle for the builds>,
FACEOFF_MEMORY=4g (each server's limit), MONITORING=prometheus,grafana (started too), and every image's name, e.g.
TFSERVING_IMAGE=: an image named so is used and not built.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from faceoff import cli, processes, progress
from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError, UsageError
from faceoff.processes import ROOT
from faceoff.servables import Trained
from faceoff.store import Store, write_atomic
from serving import containers, state
from serving.containers_images import IMAGES, resolve
from serving.lifecycle import Server
from serving.owned import Owned

FILE = ROOT / "serving" / "compose" / "compose.yaml"
READY_DEADLINE_S = 300
GRACE_S = 30
# The variables of compose.yaml that publish each port.
PORT_VARIABLES = {
    "torchserve rest": "TORCHSERVE_REST",
    "torchserve management": "TORCHSERVE_MANAGEMENT",
    "torchserve metrics": "TORCHSERVE_METRICS",
    "torchserve grpc": "TORCHSERVE_GRPC",
    "tfserving grpc": "TFSERVING_GRPC",
    "tfserving rest": "TFSERVING_REST",
}


def docker() -> str:
    """The Docker client."""
    return os.environ.get("DOCKER", "docker")


class Compose:
    """See `containers.Stack`."""

    def resolve(self, servers: str) -> list[str]:
        """See `containers.Stack`."""
        return resolve(servers)

    def check(self, names: Sequence[str], device: str) -> None:
        """Docker answers, on this machine, with the Compose plugin; the NVIDIA runtime for DEVICE=cuda."""
        host = os.environ.get("DOCKER_HOST", "unix://")
        if not host.startswith("unix://"):
            raise UsageError(
                f"DOCKER_HOST={host}: expected a Docker engine on this machine (unix://…): models are mounted from here"
            )
        info = _ask([docker(), "info", "--format", "{{json .Runtimes}}"], "a running Docker engine")
        version = _ask([docker(), "compose", "version", "--short"], "Docker's Compose plugin")
        progress.say(f"deploy: Docker Compose {version.strip()}")
        if device == "cuda" and "nvidia" not in json.loads(info):
            raise UsageError(
                "DEVICE=cuda: found no NVIDIA runtime in Docker; expected the NVIDIA container toolkit; or DEVICE=cpu"
            )

    def bring_up(self, store: Store, servers: Sequence[Server], trained: Mapping[str, Trained]) -> list[Endpoint]:
        """See `containers.Stack`."""
        folder = (store.deploy_dir / "compose").resolve()
        jobs = {server.name: server.job for server in servers}
        containers.stage(folder, jobs, trained)
        device = servers[0].job.device
        for name in jobs:
            _build(name, device)
        write_atomic(folder / ".env", "".join(f"{k}='{v}'\n" for k, v in variables(store, folder, servers).items()))
        services = {server.name: server.name + ("-gpu" if device == "cuda" else "") for server in servers}
        compose = command_line(folder, [*profiles(list(jobs), device), "monitoring", "generator", "load"])
        monitoring = cli.comma_list(os.environ.get("MONITORING", ""))
        if unknown := set(monitoring) - {"prometheus", "grafana"}:
            raise UsageError(f"MONITORING: found {sorted(unknown)}, expected prometheus, or prometheus,grafana")
        containers.remember(
            store,
            containers.Running(
                target="compose",
                servers=list(jobs),
                down=[[*compose, "down", "--timeout", str(GRACE_S), "--remove-orphans", "--volumes"]],
            ),
        )
        up = ["up", "--detach", "--wait", "--wait-timeout", str(READY_DEADLINE_S), "--no-build", *services.values(), *monitoring]
        try:
            containers.command([*compose, *up], {}, "start the containers")
            ids = {name: _container(compose, service) for name, service in services.items()}
            found = [endpoint for server in servers for endpoint in _endpoints(server, ids[server.name])]
            containers.wait_ready(found, READY_DEADLINE_S)
        except FaceoffError as error:
            raise FaceoffError(f"{error}; {_last_words(compose)}") from error
        state.write(store, [_owned(server, ids[server.name], found) for server in servers])
        return found


def command_line(folder: Path, chosen: Sequence[str]) -> list[str]:
    """`docker compose` with our file, the rendered variables and some profiles."""
    words = [docker(), "compose", "--env-file", str(folder / ".env"), "--file", str(FILE)]
    return [*words, *(word for profile in chosen for word in ("--profile", profile))]


def profiles(names: Sequence[str], device: str) -> list[str]:
    """The profiles that hold these servers."""
    named = {"embedded" if name == "tfserving-embedded" else "gpu" if device == "cuda" else "cpu" for name in names}
    return sorted(named)


def variables(store: Store, folder: Path, servers: Sequence[Server]) -> dict[str, str]:
    """What compose.yaml interpolates. The project's name goes with the artifacts' folder, so that two never mix."""
    job = servers[0].job
    found = {
        "FACEOFF_PROJECT": "faceoff-" + hashlib.sha256(str(folder).encode()).hexdigest()[:8],
        "FACEOFF_STATE": str(folder),
        "FACEOFF_CPUSET": ",".join(map(str, job.cores)),
        "FACEOFF_ARTIFACTS": str(store.artifacts.resolve()),
        "FACEOFF_RESULTS": str(store.results.resolve()),
        "FACEOFF_USER": f"{os.getuid()}:{os.getgid()}",
    }
    for server in servers:
        image = IMAGES[server.name]
        found[image.variable] = image.name(job.device)
        found |= {PORT_VARIABLES[use]: str(port) for use, port in server.ports.items() if use in PORT_VARIABLES}
        if containers.service(server.name) == "tfserving":
            found["TFSERVING_FLAGS"] = (folder / "tfserving" / "flags").read_text(encoding="utf-8").replace("\n", " ").strip()
    return found


def _build(name: str, device: str) -> None:
    image = IMAGES[name]
    if os.environ.get(image.variable):
        progress.say(f"deploy: {name} is the image {os.environ[image.variable]} ({image.variable})")
        return
    arguments = {"DEVICE": device, "TORCH_INDEX": os.environ.get("TORCH_INDEX", "") if device == "cpu" else ""}
    if name == "torchserve":
        words = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    elif name == "tfserving":
        words = [f"--build-arg=TAG={image.version}{'-gpu' if device == 'cuda' else ''}"]
    else:
        words = [f"--build-arg=DEVICE={device}"]
    if bundle := os.environ.get("PIP_CERT"):
        words += ["--secret", f"id=ca,src={bundle}"]
    tag = image.name(device)
    progress.say(f"deploy: building {tag} from {image.dockerfile}")
    argv = [docker(), "build", "--progress=plain", *words, "--tag", tag, "--file", str(ROOT / image.dockerfile), str(ROOT)]
    advice = "; where Google's image cannot be pulled: SERVERS=torchserve,tfserving-embedded" if name == "tfserving" else ""
    containers.command(argv, {"DOCKER_BUILDKIT": "1"}, f"build the image {tag}{advice}")


def _endpoints(server: Server, container: str) -> list[Endpoint]:
    name = _inspect(container, "{{.Name}}").lstrip("/")
    asked = containers.command([docker(), "exec", container, *IMAGES[server.name].asks], {}, f"ask {name} for its version")
    inside = {"memory": int(_inspect(container, "{{.HostConfig.Memory}}")), "image": _inspect(container, "{{.Image}}")}
    return [
        replace(
            server.endpoint(one),
            container=name,
            pids=_pids(container),
            implementation=", ".join(asked.split("\n")).strip(", "),
            settings={**server.endpoint(one).settings, "container": inside},
        )
        for one in server.job.served
    ]


def _pids(container: str) -> list[int]:
    """Process 1 of the container as this machine numbers it; [] where Docker runs in a virtual machine of its own."""
    pid = int(_inspect(container, "{{.State.Pid}}"))
    try:
        ours = container[:12] in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        ours = False
    return [pid] if ours else []


def _owned(server: Server, container: str, found: Sequence[Endpoint]) -> Owned:
    """For `status`: the process, and the container's log so far in a file."""
    server.job.workdir.mkdir(parents=True, exist_ok=True)
    with server.log.open("wb") as log:
        subprocess.run([docker(), "logs", container], stdout=log, stderr=subprocess.STDOUT, check=False)
    pids = next(endpoint.pids for endpoint in found if endpoint.server == server.name)
    started = processes.started(pids[0]) if pids else None
    return Owned(server=server.name, pid=pids[0] if pids else 0, started=started or "", log=str(server.log), contained=True)


def _container(compose: list[str], service: str) -> str:
    return containers.command([*compose, "ps", "--quiet", service], {}, f"find the container of {service}").strip()


def _inspect(container: str, template: str) -> Any:
    return containers.command([docker(), "inspect", "--format", template, container], {}, "inspect a container").strip()


def _last_words(compose: list[str]) -> str:
    done = subprocess.run([*compose, "logs", "--no-color", "--tail", "20"], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    for line in lines:
        progress.say(line)
    return f"last words: {lines[-1]}" if lines else "the containers said nothing"


def _ask(argv: list[str], expected: str) -> str:
    advice = f"expected {expected}; without Docker use TARGET=local"
    if shutil.which(argv[0]) is None:
        raise UsageError(f"TARGET=compose: found no program {argv[0]!r}: {advice}")
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"TARGET=compose: `{' '.join(argv[:3])}` says {said!r}: {advice}")
    return done.stdout
