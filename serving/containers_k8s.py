"""TARGET=k8s: both servers in a Kubernetes cluster, by kubectl and the overlays in k8s/.

Nothing touches a cluster that was not named: KUBECONFIG=<file> or K8S_CONTEXT=<name> must be set, and the context is printed
first. deploy renders artifacts/deploy/k8s/ (an overlay over k8s/overlays/{cpu,gpu}, with the configuration of what is deployed),
applies it, streams the models into the claim `models`, waits for the rollout, and forwards the pods' ports to loopback here.
undeploy deletes what was applied, the namespace `faceoff` included. There is one in a cluster, marked with whose it is: deploy,
loadtest and undeploy refuse another's, and one that is not marked.

Read from the environment too: KUBECTL=<path>, K8S_OVERLAY=local (or cpu, gpu), TORCHSERVE_IMAGE=, TFSERVING_IMAGE=.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from faceoff import manifest, processes, progress
from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError, UsageError, unknown
from faceoff.processes import ROOT
from faceoff.servables import Trained
from faceoff.store import Store
from serving import containers, interrupts, state
from serving.containers_images import IMAGES, replaced, resolve
from serving.lifecycle import Job, Server
from serving.owned import Owned

OVERLAYS = ROOT / "k8s" / "overlays"
NAMESPACE = "faceoff"
OWNER = "faceoff/owner"  # an annotation of the namespace
CPUS = {"cpu": 2, "gpu": 2, "local": 1}  # the limits in the overlays
ROLLOUT_DEADLINE_S = 600
ANSWER_DEADLINE_S = 60
# The ports that are forwarded, by their use, and their numbers in the pod.
FORWARDED = (
    "torchserve rest",
    "torchserve management",
    "torchserve metrics",
    "torchserve grpc",
    "tfserving grpc",
    "tfserving rest",
)


class Kubernetes:
    """See `containers.Stack`."""

    def resolve(self, servers: str) -> list[str]:
        """See `containers.Stack`."""
        return resolve(servers)

    def check(self, names: Sequence[str], device: str) -> None:
        """A cluster was named and kubectl knows its context. Nothing is asked of the cluster."""
        if not (os.environ.get("KUBECONFIG") or os.environ.get("K8S_CONTEXT")):
            raise UsageError(
                "TARGET=k8s: found neither KUBECONFIG nor K8S_CONTEXT; expected the cluster to be named by one of them"
            )
        overlay(device)
        progress.say(f"deploy: Kubernetes context {context()}, namespace {NAMESPACE}")

    def bring_up(self, store: Store, servers: Sequence[Server], trained: Mapping[str, Trained]) -> list[Endpoint]:
        """See `containers.Stack`."""
        folder = (store.deploy_dir / "k8s").resolve()
        chosen = overlay(servers[0].job.device)
        for server in servers:
            server.job = replace(server.job, cores=tuple(range(CPUS[chosen])))
        jobs = {server.name: server.job for server in servers}
        running = containers.Running(
            target="k8s",
            servers=list(jobs),
            environment={name: os.environ[name] for name in ("KUBECONFIG", "K8S_CONTEXT") if name in os.environ},
            owner=owner(store),
            asks=[*kubectl(), "get", "namespace", NAMESPACE, "--ignore-not-found", "--output=json"],
            down=[[*kubectl(), "delete", "--ignore-not-found", "--timeout=300s", "-k", str(folder)]],
        )
        require_ours(running)  # before it is remembered: what is not remembered is not taken down
        containers.stage(folder, jobs, trained)
        delivery = deliverable(folder)
        render(folder, jobs, chosen, delivery, running.owner)
        containers.remember(store, running)
        try:
            run("apply", "-k", str(folder), purpose="apply the overlay")
            _rollout("models")
            deliver(folder / "models.tar", delivery)
            for name in jobs:
                _rollout(containers.service(name))
            _forward(store, servers)
            found = [_endpoint(server, one) for server in servers for one in server.job.served]
            containers.wait_ready(found, ANSWER_DEADLINE_S)
        except FaceoffError:
            show_trouble("faceoff/role=server")
            raise
        return found


def kubectl() -> list[str]:
    """The client: KUBECTL, else the one on PATH, else the environment's own; with the context that was named."""
    beside = Path(sys.executable).parent / "kubectl"
    program = os.environ.get("KUBECTL") or shutil.which("kubectl") or (str(beside) if beside.exists() else None)
    if program is None:
        raise UsageError("TARGET=k8s: found no kubectl on PATH; expected it there or at KUBECTL=<path>")
    context = os.environ.get("K8S_CONTEXT")
    return [program, *([f"--context={context}"] if context else [])]


def context() -> str:
    """The context in force, by kubectl's configuration. Raises UsageError."""
    done = subprocess.run([*kubectl(), "config", "current-context"], capture_output=True, text=True, check=False)
    found = os.environ.get("K8S_CONTEXT") or done.stdout.strip()
    if not found:
        raise UsageError(f"TARGET=k8s: kubectl knows no current context ({done.stderr.strip()}); set K8S_CONTEXT=<name>")
    return found


def overlay(device: str) -> str:
    """The overlay for a device, or K8S_OVERLAY's. Raises UsageError."""
    chosen = os.environ.get("K8S_OVERLAY") or {"cpu": "cpu", "cuda": "gpu"}[device]
    if chosen not in CPUS:
        raise unknown("overlay", chosen, list(CPUS), "K8S_OVERLAY")
    return chosen


def owner(store: Store) -> str:
    """What marks a namespace as this store's: the artifacts' folder, hashed, and the machine."""
    folder = hashlib.sha256(str(store.artifacts.resolve()).encode()).hexdigest()[:12]
    return f"{folder}@{platform.node()}"


def require_ours(running: containers.Running) -> None:
    """Raise UsageError where the namespace is there and not marked as this deploy's: an apply would replace another's servers,
    a delete takes all that is in it.
    """
    if not running.asks:
        return  # the record of a deploy from before there were marks
    said = containers.command(running.asks, running.environment, f"ask whose the namespace {NAMESPACE} is")
    if not said.strip():
        return
    found = json.loads(said)["metadata"].get("annotations", {}).get(OWNER)
    if found != running.owner:
        whose = f"belongs to {found} (a hash of the artifacts' folder, and the machine)" if found else "is marked as nobody's"
        raise UsageError(
            f"TARGET=k8s: this cluster's namespace {NAMESPACE} {whose}, expected {running.owner}: nothing in it was changed; "
            f"let its owner run make undeploy, or name another cluster; if all in it is yours: "
            f"kubectl annotate --overwrite namespace {NAMESPACE} {OWNER}={running.owner}"
        )


def deliverable(folder: Path) -> str:
    """Pack <folder>/models/ into models.tar, each SHA256SUMS last (init containers wait for it); returns its name."""
    root = folder / "models"
    sums = sorted(root.glob("*/SHA256SUMS"))
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path not in sums]
    with tarfile.open(folder / "models.tar", "w") as archive:
        for path in [*files, *sums]:
            archive.add(path, arcname=str(path.relative_to(root)))
    return manifest.sha256(folder / "models.tar")[:16]


def deliver(archive: Path, delivery: str) -> None:
    """Stream an archive into the folder `delivery` of the claim `models`."""
    into = f"/delivered/{delivery}"
    in_cluster("exec", "deployment/models", "--", "mkdir", "-p", into, purpose="make room for what is delivered")
    untar = ("exec", "-i", "deployment/models", "--", "tar", "-xf", "-", "-C", into)
    in_cluster(*untar, purpose=f"deliver {archive.name}", stdin=archive)


def render(folder: Path, jobs: Mapping[str, Job], chosen: str, delivery: str, owned_by: str) -> None:
    """Write <folder>/kustomization.yaml: the overlay with these servers' configuration, images, names and flags."""
    import yaml

    marked = [{"op": "add", "path": "/metadata/annotations", "value": {OWNER: owned_by}}]
    generators, images = [], []
    patches: list[dict[str, Any]] = [{"patch": json.dumps(marked), "target": {"kind": "Namespace"}}]
    places = {containers.service(name): (name, job) for name, job in jobs.items()}
    for place, (name, job) in places.items():
        with (folder / place / "environment").open("a", encoding="utf-8") as file:
            file.write(f"FACEOFF_DELIVERY={delivery}\n")
        files = sorted(path.name for path in (folder / place).iterdir() if path.name not in ("environment", "flags"))
        generators.append({"name": f"{place}-config", "behavior": "replace", "files": [f"{place}/{file}" for file in files]})
        generators.append({"name": f"{place}-environment", "behavior": "replace", "envs": [f"{place}/environment"]})
        # Of both that take a place: the overlay has put one of them there.
        repositories = [image.repository for other, image in IMAGES.items() if containers.service(other) == place]
        images += [replaced(repository, IMAGES[name].name(job.device)) for repository in repositories]
        patch = [{"op": "replace", "path": "/spec/template/metadata/labels/faceoff~1server", "value": name}]
        if place == "tfserving":
            flags: Any = (folder / place / "flags").read_text(encoding="utf-8").splitlines()
            patch.append({"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": flags})
        patches.append({"patch": json.dumps(patch), "target": {"kind": "Deployment", "name": place}})
    absent = [place for place in ("torchserve", "tfserving") if place not in places]
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(OVERLAYS / chosen, folder)],
        "configMapGenerator": generators,
        "images": images,
        "patches": patches,
        "replicas": [{"name": place, "count": 0} for place in absent],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def run(*words: str, purpose: str, stdin: Path | None = None) -> str:
    """Run kubectl; returns its stdout. Raises FaceoffError."""
    return containers.command([*kubectl(), *words], {}, purpose, stdin=stdin)


def in_cluster(*words: str, purpose: str, stdin: Path | None = None) -> str:
    """As `run`, in our namespace."""
    return run(f"--namespace={NAMESPACE}", *words, purpose=purpose, stdin=stdin)


def _rollout(name: str) -> None:
    words = ("rollout", "status", f"deployment/{name}", f"--timeout={ROLLOUT_DEADLINE_S}s")
    for line in in_cluster(*words, purpose=f"roll out {name}").splitlines()[-1:]:
        progress.say(f"deploy: {line}")


def _forward(store: Store, servers: Sequence[Server]) -> None:
    """One `kubectl port-forward` a server, in state.json like any process of ours."""
    owned = []
    for server in servers:
        pairs = [f"{server.ports[use]}:{server.standard_ports[use]}" for use in FORWARDED if use in server.ports]
        server.job.workdir.mkdir(parents=True, exist_ok=True)
        target = f"deployment/{containers.service(server.name)}"
        argv = [*kubectl(), f"--namespace={NAMESPACE}", "port-forward", "--address=127.0.0.1", target, *pairs]
        with server.log.open("wb") as log, interrupts.held():
            server.process = subprocess.Popen(  # the server's: whoever cleans up before it is on record stops it there
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            pid = server.process.pid
            owned.append(Owned(server=server.name, pid=pid, started=processes.started(pid) or "", log=str(server.log)))
            state.write(store, owned)


def _endpoint(server: Server, one: Any) -> Endpoint:
    target = f"deployment/{containers.service(server.name)}"
    said = in_cluster("exec", target, "--", *IMAGES[server.name].asks, purpose=f"ask {server.name} for its version")
    named = ", ".join(said.split("\n")).strip(", ")
    return replace(server.endpoint(one), container=f"{NAMESPACE}/{target}", pids=[], implementation=named)


def show_trouble(selector: str) -> None:
    """The pods, the last events and the last log lines of pods with these labels, for people."""
    for title, words in (
        ("pods", ("get", "pods", "-o", "wide")),
        ("events", ("get", "events", "--sort-by=.lastTimestamp")),
        ("logs", ("logs", f"--selector={selector}", "--all-containers", "--prefix", "--tail=20")),
    ):
        argv = [*kubectl(), f"--namespace={NAMESPACE}", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        for line in (done.stdout or done.stderr).splitlines()[-40:]:
            progress.say(f"{title}: {line}")
