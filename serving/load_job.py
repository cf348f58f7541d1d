"""A load test inside the cluster that deploy has deployed to: Locust's master and workers as Jobs (k8s/base/locust).

    python -m serving.load_job --workers 2 --run mine -- --scenarios=closed,server --rate=200

What follows `--` are options of `locust -f loadtest/locustfile.py`. The workers send to the servers' Services; the master merges
every raw row of every worker. The results are copied into results/<run>/, and the exit code is that of the run: 0 all VALID,
3 something INVALID, 2 a user's mistake, 1 a fault, with the pods' events and last log lines. The Jobs are deleted whatever
happens. Read from the environment: LOADTEST_IMAGE=.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from faceoff import cli, endpoints, manifest, progress
from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError, InvalidError, UsageError
from faceoff.processes import ROOT
from faceoff.store import Store, write_atomic
from serving import containers, containers_k8s
from serving.containers_images import replaced
from serving.containers_k8s import in_cluster, kubectl, run
from serving.servers import server_class

BASE = ROOT / "k8s" / "base" / "locust"
MASTER = "job/load-master"
START_DEADLINE_S = 600
LOOK_S = 2.0
RESULTS = "/opt/faceoff/results"


def load_job(args: argparse.Namespace) -> dict[str, Any]:
    """Deliver what the load suite reads, start the Jobs, wait, copy the results out; returns run and summary."""
    store = cli.store(args)
    name = args.run or datetime.now(UTC).strftime("loadtest-%Y%m%dT%H%M%SZ")
    target = store.run_dir(name)
    found = endpoints.read(store)
    # The cluster was named when it was deployed to; it is the same one now.
    running = deployed_to(store)
    os.environ.update(running.environment)
    progress.say(f"load test: Kubernetes context {containers_k8s.context()}, namespace {containers_k8s.NAMESPACE}")
    containers_k8s.require_ours(running)
    folder = (store.deploy_dir / "k8s" / "load").resolve()
    delivery = stage(store, folder, found)
    render(folder, delivery, args.workers, [f"--run={name}", *args.options])
    containers_k8s.deliver(folder / "load.tar", delivery)
    clear = ("delete", "--ignore-not-found", "--cascade=foreground", "--timeout=120s", "-k", str(folder))
    try:
        run(*clear, purpose="delete the Jobs of an earlier load test")
        run("apply", "-k", str(folder), purpose="start the load test")
        status = _wait(args.deadline)
        if status in (0, 3):
            _copy(name, target)
        in_cluster("exec", MASTER, "--", "touch", f"{RESULTS}/.fetched", purpose="end the master")
        if status not in (0, 3):
            raise (
                UsageError("the load test refused its options: see the log above")
                if status == 2
                else FaceoffError(f"the load test ended with exit code {status}: see the log above")
            )
    except FaceoffError:
        containers_k8s.show_trouble("faceoff/role=client")
        raise
    finally:
        run(*clear, purpose="delete the Jobs (then by hand: kubectl delete job load-master load-worker)")
    return _told(name, target / "summary.json", status)


def deployed_to(store: Store) -> containers.Running:
    """The stack of the last deploy. Raises UsageError unless it is one of TARGET=k8s."""
    running = containers.running(store)
    if running is None or running.target != "k8s":
        raise UsageError("TARGET=k8s: found nothing deployed to a cluster; run make deploy TARGET=k8s KUBECONFIG=<file> first")
    return running


def stage(store: Store, folder: Path, found: list[Endpoint]) -> str:
    """Pack <folder>/load.tar: records and golden rows of every deployed model, and where the Services are; returns its name."""
    shutil.rmtree(folder, ignore_errors=True)
    kept = folder / "artifacts"
    wanted = [store.deploy_dir / "parity.json"]
    for model in sorted({endpoint.model for endpoint in found}):
        wanted += [*store.model_dir(model).rglob("*.json"), *(store.model_dir(model) / "golden").iterdir()]
    for path in wanted:
        place = kept / path.relative_to(store.artifacts)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    write_atomic(kept / store.endpoints.name, json.dumps([asdict(inside(endpoint)) for endpoint in found], indent=2) + "\n")
    with tarfile.open(folder / "load.tar", "w") as archive:
        for path in sorted(kept.iterdir()):
            archive.add(path, arcname=path.name)
    return "load-" + manifest.sha256(folder / "load.tar")[:16]


def inside(endpoint: Endpoint) -> Endpoint:
    """The same endpoint as a pod of the namespace reaches it: by its Service, which has no management port."""
    service = containers.service(endpoint.server)
    ports = server_class(endpoint.server).standard_ports
    page = urlsplit(endpoint.metrics_url or "").path
    metrics_port, _ = containers.METRICS[service]
    return replace(
        endpoint,
        rest_url=f"http://{service}:{ports[f'{service} rest']}",
        grpc_target=f"{service}:{ports[f'{service} grpc']}",
        metrics_url=f"http://{service}:{metrics_port}{page}" if page else None,
        management_url=None,
    )


def render(folder: Path, delivery: str, num_workers: int, options: list[str]) -> None:
    """Write <folder>/kustomization.yaml: the Jobs with this delivery, so many workers, these options."""
    import yaml

    template = "/spec/template/spec/containers/0"
    mount = {"op": "replace", "path": f"{template}/volumeMounts/0/subPath", "value": delivery}
    count = {"op": "replace", "path": f"{template}/env/0/value", "value": str(num_workers)}
    given = [{"op": "add", "path": f"{template}/args/-", "value": option} for option in options]
    both = [{"op": "replace", "path": f"/spec/{field}", "value": num_workers} for field in ("parallelism", "completions")]
    document: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(BASE, folder)],
        "patches": [
            {"patch": json.dumps([mount, count, *given]), "target": {"kind": "Job", "name": "load-master"}},
            {"patch": json.dumps([mount, *both]), "target": {"kind": "Job", "name": "load-worker"}},
        ],
    }
    if image := os.environ.get("LOADTEST_IMAGE"):
        document["images"] = [replaced("faceoff/loadtest", image)]
    write_atomic(folder / "kustomization.yaml", yaml.safe_dump(document, sort_keys=False))


def _wait(deadline_s: float) -> int:
    """The exit status that the master has left. Raises FaceoffError when it does not start, has gone, or time is up."""
    began, started = time.monotonic(), False
    look = f"cat {RESULTS}/.status 2>/dev/null || true"
    asked = [*kubectl(), f"--namespace={containers_k8s.NAMESPACE}", "exec", MASTER, "--", "sh", "-c", look]
    failed = ("get", MASTER, "--output=jsonpath={.status.failed}")
    while True:
        done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode == 0 and re.fullmatch(r"\d+\n", done.stdout):
            return int(done.stdout)
        started = started or done.returncode == 0
        if in_cluster(*failed, purpose="ask for the master's state").strip() not in ("", "0"):
            raise FaceoffError("Locust's master was lost before it could say how the run ended")
        limit_s = deadline_s if started else min(deadline_s, START_DEADLINE_S)
        if time.monotonic() - began > limit_s:
            raise FaceoffError(f"the load test did not {'end' if started else 'start'} within {limit_s:.0f} s")
        time.sleep(LOOK_S)


def _copy(name: str, target: Path) -> None:
    """Copy results/<name> of the master, in place of what is here: all of it or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{name}-copy")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    argv = [*kubectl(), f"--namespace={containers_k8s.NAMESPACE}", "exec", MASTER, "--", "tar", "-cf", "-", "-C", RESULTS, name]
    try:
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                    archive.extractall(partial, filter="data")
            except tarfile.TarError as error:
                raise FaceoffError(f"could not copy the results out: {error}") from error
        if process.returncode != 0 or not (partial / name / "summary.json").exists():
            raise FaceoffError(f"could not copy the results out: kubectl ended with exit code {process.returncode}; see above")
        shutil.rmtree(target, ignore_errors=True)
        (partial / name).rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    progress.say(f"load test: results copied to {target}")


def _told(name: str, summary: Path, status: int) -> dict[str, Any]:
    found = json.loads(summary.read_text(encoding="utf-8"))["measurements"]
    invalid = [m for m in found if not m["valid"]]
    if status == 3:
        reason = f"{invalid[0]['id']}: {invalid[0]['invalid_reasons'][0]}" if invalid else "it says so"
        raise InvalidError(f"{len(invalid)} of {len(found)} measurements are INVALID (first: {reason}); all are in {summary}")
    return {"run": name, "summary": str(summary), "num_valid": len(found), "num_invalid": 0}


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.load_job`."""
    parser = cli.Parser(prog="python -m serving.load_job", description=__doc__)
    parser.add_argument("--workers", type=cli.positive_int, default=2, help="Locust's workers (default: %(default)s)")
    parser.add_argument("--run", default="", help="name of the results folder (default: loadtest-<UTC time>)")
    parser.add_argument("--deadline", type=float, default=7200.0, help="seconds the run may take (default: %(default).0f)")
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="options of python -m loadtest.run")
    parser.add_store()
    return cli.run(parser, load_job, argv)


if __name__ == "__main__":
    raise SystemExit(main())
