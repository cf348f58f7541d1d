"""TARGET=k8s against a kubectl that checks every command line and forwards to real servers: there is no cluster here."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from faceoff import endpoints
from faceoff.store import Store
from serving import state
from tests.conftest import ROOT, Run, roots, run_module


@dataclass(frozen=True)
class Cluster:
    """A store that nothing is deployed from yet, and the fake's folder."""

    store: Store
    folder: Path

    def deploy(self, *options: str, fail: str | None = None, env: dict[str, str] | None = None) -> Run:
        settings = json.loads((self.folder / "fake.json").read_text()) | {"fail": fail}
        (self.folder / "fake.json").write_text(json.dumps(settings))
        named = {"KUBECONFIG": "/dev/null"} if env is None else env
        options = (
            "--target",
            "k8s",
            "--servers",
            "torchserve,tfserving-embedded",
            "--ports",
            "free",
            "--device",
            "cpu",
            *options,
        )
        return run_module("serving.deploy", *options, *roots(self.store), env={**self.environment, **named})

    def load(self, *options: str, image: str = "", failed: str = "") -> Run:
        settings = json.loads((self.folder / "fake.json").read_text()) | {"fail": None, "failed": failed}
        (self.folder / "fake.json").write_text(json.dumps(settings))
        words = ("--workers", "3", "--run", "inside", *roots(self.store), "--", *options)
        return run_module("serving.load_job", *words, env={**self.environment, "LOADTEST_IMAGE": image})

    @property
    def environment(self) -> dict[str, str]:
        return {"KUBECTL": str(self.folder / "kubectl"), "FAKE_KUBECTL": str(self.folder / "fake.json")}

    @property
    def sent(self) -> list[list[str]]:
        path = self.folder / "log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def cluster(deployed: Store, tmp_path: Path) -> Cluster:
    script = tmp_path / "kubectl"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/fakes/kubectl.py" "$@"\n')
    script.chmod(0o755)
    targets: dict[str, dict[str, int | None]] = {}
    for endpoint in endpoints.read(deployed, model="cnn"):
        rest, grpc = urlsplit(endpoint.rest_url).port, int(endpoint.grpc_target.rpartition(":")[2])
        if endpoint.server == "torchserve":
            other = {"8081": urlsplit(str(endpoint.management_url)).port, "8082": urlsplit(str(endpoint.metrics_url)).port}
            targets["deployment/torchserve"] = {"8080": rest, "7070": grpc, **other}
        else:
            targets["deployment/tfserving"] = {"8501": rest, "8500": grpc}
    (tmp_path / "kept").mkdir()
    fake = {"log": str(tmp_path / "log"), "kept": str(tmp_path / "kept"), "context": "test-context", "forward": targets}
    (tmp_path / "fake.json").write_text(json.dumps(fake))
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    shutil.copytree(deployed.artifacts / "cnn", store.artifacts / "cnn")
    return Cluster(store=store, folder=tmp_path)


def test_deploy_proves_parity_through_the_cluster_and_undeploy_deletes_it(cluster):
    try:
        done = cluster.deploy()
        assert done.code == 0, done.stderr[-3000:]
        assert "Kubernetes context test-context" in done.stderr
        assert done.stderr.index("test-context") < done.stderr.index("rolled out")
        found = endpoints.read(cluster.store)
        assert [e.container for e in found] == ["faceoff/deployment/torchserve", "faceoff/deployment/tfserving"]
        assert [e.server for e in found] == ["torchserve", "tfserving-embedded"]
        assert done.result["parity_checks"] > 0
        check_delivery(cluster.folder / "kept" / "models.tar")
        check_applied(cluster.folder / "kept" / "applied.yaml")
    finally:
        after = run_module("serving.undeploy", *roots(cluster.store), env=cluster.environment)
    assert after.result["stopped"][:2] == ["torchserve", "tfserving-embedded"]
    assert cluster.sent[-1][0] == "delete"
    assert state.read(cluster.store) == []
    assert not cluster.store.endpoints.exists()


def test_the_load_jobs_results_are_copied_out_and_its_exit_status_is_that_of_the_run(cluster):
    """A single Locust in the place of the Jobs' pods, with what was delivered and the master's options."""
    import pyarrow.parquet

    options = ["--scenarios=closed", "--protocols=rest", "--servers=tfserving-embedded", "--duration=1", "--rest=0"]
    try:
        assert cluster.deploy().code == 0
        done = cluster.load(*options, image="registry.example:5000/load:7")
        assert (done.code, done.result["status"]) in {(0, "ok"), (3, "invalid")}, done.stderr[-3000:]
        assert done.stderr.index("Kubernetes context test-context") < done.stderr.index("results copied to")
        folder = cluster.store.run_dir("inside")
        [measurement] = json.loads((folder / "summary.json").read_text())["measurements"]
        assert measurement["valid"] == (done.code == 0)
        assert measurement["num_wrong"] == 0
        rows = pyarrow.parquet.read_metadata(folder / measurement["samples"]).num_rows
        assert rows == measurement["num_requests"] > 0
        assert [path.name for path in cluster.store.results.iterdir()] == ["inside"]
        check_jobs(cluster.folder / "kept" / "load.yaml", ["--run=inside", *options])
        check_endpoints(cluster.folder / "kept" / "load.tar")
        sent = [words[1:] if words[0].startswith("--namespace") else words for words in cluster.sent]
        assert sent[-1] == ["delete", "--ignore-not-found", "--cascade=foreground", "--timeout=120s", "-k", sent[-1][-1]]
        assert sent[-2] == ["exec", "job/load-master", "--", "touch", "/opt/faceoff/results/.fetched"]
        refused = cluster.load("--scenarios=closed", "--protocols=smoke")
        assert (refused.code, refused.result["status"]) == (2, "usage")
        lost = cluster.load("--scenarios=closed", failed="1")
        assert (lost.code, lost.result["status"]) == (1, "fault")
        assert "master was lost" in lost.result["error"]
        for trouble in (refused, lost):
            assert "events: the fake's events" in trouble.stderr
            assert "logs: the fake's --selector=faceoff/role=client" in trouble.stderr
            assert cluster.sent[-1][0] == "delete"
        assert rows == pyarrow.parquet.read_metadata(folder / measurement["samples"]).num_rows  # the earlier run is still there
    finally:
        run_module("serving.undeploy", *roots(cluster.store), env=cluster.environment)


def check_jobs(path: Path, options: list[str]) -> None:
    """Master and workers have what the run was asked for; both may load the two Services and nothing else."""
    jobs = {d["metadata"]["name"]: d["spec"] for d in yaml.safe_load_all(path.read_text()) if d["kind"] == "Job"}
    assert (jobs["load-worker"]["parallelism"], jobs["load-worker"]["completions"]) == (3, 3)
    containers = {name: job["template"]["spec"]["containers"][0] for name, job in jobs.items()}
    assert containers["load-master"]["args"][2:] == options
    environments = {name: {e["name"]: e["value"] for e in container["env"]} for name, container in containers.items()}
    assert environments == {
        "load-master": {"LOAD_WORKERS": "3", "FACEOFF_LOAD_HOSTS": "torchserve,tfserving"},
        "load-worker": {"FACEOFF_LOAD_HOSTS": "torchserve,tfserving"},
    }
    assert {container["image"] for container in containers.values()} == {"registry.example:5000/load:7"}
    [place] = {container["volumeMounts"][0]["subPath"] for container in containers.values()}
    assert place.startswith("load-")
    for job in jobs.values():
        [term] = job["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ]
        assert term == {"matchExpressions": [{"key": "nvidia.com/gpu.present", "operator": "NotIn", "values": ["true"]}]}


def check_endpoints(path: Path) -> None:
    """The Services by name, no port of this machine and none of TorchServe's management."""
    with tarfile.open(path) as archive:
        found = json.load(archive.extractfile("endpoints.json"))  # type: ignore[arg-type]
    assert [(e["rest_url"], e["grpc_target"], e["metrics_url"], e["management_url"]) for e in found] == [
        ("http://torchserve:8080", "torchserve:7070", "http://torchserve:8082/metrics", None),
        ("http://tfserving:8501", "tfserving:8500", "http://tfserving:8501/monitoring/prometheus/metrics", None),
    ]


def test_a_load_job_wants_servers_in_a_cluster(deployed, cluster):
    shutil.copyfile(deployed.endpoints, cluster.store.endpoints)
    done = cluster.load("--scenarios=closed")
    assert (done.code, done.result["status"]) == (2, "usage")
    assert "found nothing deployed to a cluster" in done.result["error"]
    assert cluster.sent == []


def check_delivery(path: Path) -> None:
    """Every file has its sum, and a server's sums come after all files: its init container waits for them."""
    with tarfile.open(path) as archive:
        names = archive.getnames()
        content = {name: archive.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert names[-2:] == ["tfserving/SHA256SUMS", "torchserve/SHA256SUMS"]
    listed = {}
    for server in ("torchserve", "tfserving"):
        for line in content[f"{server}/SHA256SUMS"].decode().splitlines():
            digest, name = line.split("  ")
            listed[f"{server}/{name}"] = digest
    assert listed == {name: hashlib.sha256(content[name]).hexdigest() for name in names[:-2]}
    assert "torchserve/cnn-1.mar" in listed
    assert "tfserving/cnn/1/saved_model.pb" in listed


def check_applied(path: Path) -> None:
    """What was applied is what was staged: images, configuration, and one delivery for both."""
    documents = list(yaml.safe_load_all(path.read_text()))
    images = {
        d["metadata"]["name"]: d["spec"]["template"]["spec"]["containers"][0]["image"]
        for d in documents
        if d["kind"] == "Deployment"
    }
    assert images["torchserve"] == "faceoff/torchserve:0.12.0-cpu"
    assert images["tfserving"] == "faceoff/tfserving-embedded:2.21.0-cpu"
    maps = {d["metadata"]["name"].rpartition("-")[0]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    assert "0.0.0.0:8080" in maps["torchserve-config"]["config.properties"]
    deliveries = {maps[f"{server}-environment"]["FACEOFF_DELIVERY"] for server in ("torchserve", "tfserving")}
    assert len(deliveries) == 1
    assert deliveries != {"current"}


def test_a_rollout_that_fails_shows_events_and_logs_and_leaves_nothing(cluster):
    done = cluster.deploy(fail="deployment/torchserve")
    assert (done.code, done.result["status"]) == (1, "fault")
    assert "could not roll out torchserve" in done.result["error"]
    assert "events: the fake's events" in done.stderr
    assert "logs: the fake's --selector=faceoff/role=server" in done.stderr
    assert cluster.sent[-1][0] == "delete"
    assert not cluster.store.endpoints.exists()
    assert not (cluster.store.deploy_dir / "stack.json").exists()


def test_no_cluster_is_touched_that_was_not_named(cluster):
    done = cluster.deploy(env={"KUBECONFIG": "", "K8S_CONTEXT": ""})
    assert (done.code, done.result["status"]) == (2, "usage")
    assert "found neither KUBECONFIG nor K8S_CONTEXT" in done.result["error"]
    assert cluster.sent == []


def test_an_unknown_overlay_is_refused_before_anything_is_sent(cluster):
    done = cluster.deploy(env={"KUBECONFIG": "/dev/null", "K8S_OVERLAY": "moon"})
    assert (done.code, done.result["status"]) == (2, "usage")
    assert "expected one of cpu, gpu, local" in done.result["error"]
    assert cluster.sent == []
