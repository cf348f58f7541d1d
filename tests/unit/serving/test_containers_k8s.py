"""What is rendered for a cluster, and whose namespace is touched: by the real kubectl's kustomize and by the fake one."""

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from faceoff.errors import UsageError
from faceoff.store import Store
from serving import containers, containers_images, containers_k8s, load_job
from serving.servers import server_class
from tests.conftest import ROOT
from tests.static.check_containers import kustomize
from tests.unit.serving.test_containers import job

OURS = "0123456789ab@here"


def rendered(folder: Path, *servers: str, overlay: str = "cpu") -> dict[str, dict]:
    """The objects of a deploy, by kind and name."""
    jobs = {server: job(server) for server in servers}
    for server, each in jobs.items():
        place = folder / containers.service(server)
        place.mkdir()
        (place / "environment").write_text("")
        if place.name == "torchserve":
            (place / "config.properties").write_text("")
        else:
            (place / "flags").write_text("\n".join(containers.flags(each, place)) + "\n")
    containers_k8s.render(folder, jobs, overlay, "delivery", OURS)
    return {f"{d['kind']}/{d['metadata']['name']}": d for d in kustomize(folder)}


def pod(objects: dict[str, dict], name: str) -> dict:
    return objects[f"Deployment/{name}"]["spec"]["template"]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mytorchserve", {"newName": "mytorchserve", "newTag": "latest"}),
        ("mine:7", {"newName": "mine", "newTag": "7"}),
        ("host:5000/name", {"newName": "host:5000/name", "newTag": "latest"}),
        ("host:5000/a/name:7", {"newName": "host:5000/a/name", "newTag": "7"}),
        ("name@sha256:ab", {"newName": "name", "digest": "sha256:ab"}),
        ("host:5000/name:7@sha256:ab", {"newName": "host:5000/name", "digest": "sha256:ab"}),
    ],
)
def test_an_image_may_be_named_in_every_way(name, place, tmp_path, monkeypatch):
    assert containers_images.replaced("known", name) == {"name": "known", **place}
    monkeypatch.setenv("LOADTEST_IMAGE", name)
    load_job.render(tmp_path, "delivery", 2, [])
    assert yaml.safe_load((tmp_path / "kustomization.yaml").read_text())["images"] == [{"name": "faceoff/loadtest", **place}]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("mytorchserve", "mytorchserve:latest"),
        ("host:5000/name", "host:5000/name:latest"),
        ("host:5000/name@sha256:ab", "host:5000/name@sha256:ab"),
    ],
)
def test_the_users_image_is_what_every_container_of_a_place_runs(name, image, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHSERVE_IMAGE", name)
    objects = rendered(tmp_path, "torchserve", "tfserving")
    of_pod = pod(objects, "torchserve")["spec"]
    assert [c["image"] for c in [*of_pod["initContainers"], *of_pod["containers"]]] == [image, image]
    assert pod(objects, "models")["spec"]["containers"][0]["image"] == image
    assert pod(objects, "tfserving")["spec"]["containers"][0]["image"] == "faceoff/tfserving:2.19.1-cpu"


@pytest.mark.parametrize("overlay", ["cpu", "local"])
@pytest.mark.parametrize("server", ["tfserving", "tfserving-embedded"])
def test_metrics_name_the_server_that_was_deployed(server, overlay, tmp_path):
    objects = rendered(tmp_path, "torchserve", server, overlay=overlay)
    assert pod(objects, "tfserving")["metadata"]["labels"]["faceoff/server"] == server
    assert pod(objects, "torchserve")["metadata"]["labels"]["faceoff/server"] == "torchserve"
    assert f"faceoff/{server}:" in pod(objects, "tfserving")["spec"]["containers"][0]["image"]


def test_autoscaling_finds_whichever_server_has_tensorflow_servings_place():
    for scaled in yaml.safe_load_all((ROOT / "k8s/components/autoscaling/scaling.yaml").read_text()):
        query = scaled["spec"]["triggers"][0]["metadata"]["query"]
        for exact, pattern in re.findall(r'server=(?:"([^"]+)"|~"([^"]+)")', query):
            found = {s for s in containers_images.IMAGES if s == exact or (pattern and re.fullmatch(pattern, s))}
            assert found == {s for s in containers_images.IMAGES if containers.service(s) == scaled["metadata"]["name"]}


def test_flags_come_as_they_are_and_the_namespace_is_marked(tmp_path):
    objects = rendered(tmp_path, "tfserving")
    assert pod(objects, "tfserving")["spec"]["containers"][0]["args"] == containers.flags(job("tfserving"), tmp_path)
    assert objects["Namespace/faceoff"]["metadata"]["annotations"] == {"faceoff/owner": OURS}
    assert objects["Namespace/faceoff"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The fake kubectl's folder."""
    script = tmp_path / "kubectl"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/fakes/kubectl.py" "$@"\n')
    script.chmod(0o755)
    (tmp_path / "fake.json").write_text(json.dumps({"log": str(tmp_path / "log"), "kept": str(tmp_path)}))
    monkeypatch.setenv("KUBECTL", str(script))
    monkeypatch.setenv("FAKE_KUBECTL", str(tmp_path / "fake.json"))
    monkeypatch.delenv("K8S_CONTEXT", raising=False)
    return tmp_path


def sent(cluster: Path) -> list[str]:
    return [json.loads(line)[0] for line in (cluster / "log").read_text().splitlines()]


def namespace(annotations: dict | None) -> str:
    return json.dumps(
        {"kind": "Namespace", "metadata": {"name": "faceoff", **({"annotations": annotations} if annotations else {})}}
    )


def deployed(store: Store, cluster: Path) -> None:
    """The record of a deploy, as bring_up leaves it."""
    (cluster / "kustomization.yaml").touch()
    client = [str(cluster / "kubectl")]
    containers.remember(
        store,
        containers.Running(
            target="k8s",
            servers=["torchserve"],
            owner=containers_k8s.owner(store),
            asks=[*client, "get", "namespace", "faceoff", "--ignore-not-found", "--output=json"],
            down=[[*client, "delete", "--ignore-not-found", "--timeout=300s", "-k", str(cluster)]],
        ),
    )


STRANGERS = [
    ({"faceoff/owner": "ba9876543210@elsewhere"}, r"belongs to ba9876543210@elsewhere"),
    ({"other": "annotation"}, "marked as nobody's"),
    (None, "marked as nobody's"),
]


@pytest.mark.parametrize(("annotations", "whose"), STRANGERS)
def test_a_namespace_that_is_not_ours_is_neither_applied_to_nor_deleted(cluster, annotations, whose):
    (cluster / "namespace.json").write_text(namespace(annotations))
    store = Store(artifacts=cluster / "artifacts")
    servers = [server_class("torchserve")(replace(job("torchserve"), workdir=cluster), {})]
    with pytest.raises(
        UsageError, match=f"{whose}.*nothing in it was changed; let its owner run make undeploy.*kubectl annotate"
    ):
        containers_k8s.Kubernetes().bring_up(store, servers, {})
    assert containers.take_down(store) == []  # what a deploy that failed does
    assert sent(cluster) == ["get"]


@pytest.mark.parametrize(("annotations", "whose"), STRANGERS)
def test_undeploy_leaves_a_namespace_that_is_anothers_by_now(cluster, annotations, whose):
    (cluster / "namespace.json").write_text(namespace(annotations))
    store = Store(artifacts=cluster / "artifacts")
    deployed(store, cluster)
    with pytest.raises(UsageError, match=whose):
        containers.take_down(store)
    assert sent(cluster) == ["get"]
    assert containers.running(store) is not None
    assert containers.take_down(store, forget=True) == []
    assert sent(cluster) == ["get", "get"]


def test_no_load_job_is_started_in_anothers_namespace(cluster, monkeypatch):
    (cluster / "namespace.json").write_text(namespace({"faceoff/owner": "ba9876543210@elsewhere"}))
    store = Store(artifacts=cluster / "artifacts", results=cluster / "results")
    deployed(store, cluster)
    monkeypatch.setenv("K8S_CONTEXT", "")
    monkeypatch.setattr(load_job.containers_k8s, "context", lambda: "test-context")
    monkeypatch.setattr(load_job.endpoints, "read", lambda store: [])
    given = argparse.Namespace(artifacts=store.artifacts, results=store.results, run="", workers=2, options=[], deadline=1.0)
    with pytest.raises(UsageError, match="belongs to ba9876543210@elsewhere"):
        load_job.load_job(given)
    assert sent(cluster) == ["get"]


@pytest.mark.parametrize("there", [True, False])
def test_undeploy_deletes_what_is_ours_or_has_gone(cluster, there):
    store = Store(artifacts=cluster / "artifacts")
    if there:
        (cluster / "namespace.json").write_text(namespace({"faceoff/owner": containers_k8s.owner(store)}))
    deployed(store, cluster)
    assert containers.take_down(store) == ["torchserve"]
    assert sent(cluster) == ["get", "delete"]


def test_the_owner_is_the_artifacts_folder_on_this_machine(tmp_path, monkeypatch):
    one, other = (containers_k8s.owner(Store(artifacts=tmp_path / name)) for name in "ab")
    assert one != other
    assert str(tmp_path) not in one
    monkeypatch.chdir(tmp_path)
    assert containers_k8s.owner(Store(artifacts=Path("a"))) == one
    monkeypatch.setattr(containers_k8s.platform, "node", lambda: "elsewhere")
    assert containers_k8s.owner(Store(artifacts=Path("a"))) == one.partition("@")[0] + "@elsewhere"
