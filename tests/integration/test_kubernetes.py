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
