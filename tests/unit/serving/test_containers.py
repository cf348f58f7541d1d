"""What containers are given, and that every committed file that repeats it says the same."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from faceoff.errors import FaceoffError, UsageError
from faceoff.signature import Signature, TensorSpec
from faceoff.store import Store
from serving import containers, containers_compose, containers_images, containers_k8s
from serving.lifecycle import Job, Served
from serving.servers import server_class
from tests.conftest import ROOT


def job(
    name: str, *, tuning: str = "default", versions: tuple[int, ...] = (1,), labels: dict | None = None, device: str = "cpu"
) -> Job:
    tensor = TensorSpec(name="x", dtype="float32", shape=(2,))
    kind = server_class(name)
    settings = kind.settings(tuning)
    served = tuple(
        Served(
            model="cnn",
            version=version,
            artifact=Path("/nowhere"),
            export_sha256="",
            signature=Signature(inputs=(tensor,), outputs=(tensor,)),
            precision="float32",
            tolerance=1e-4,
        )
        for version in versions
    )
    return Job(
        served=served,
        artifact_format=kind.artifact_format,
        settings=settings,
        cores=(0, 1),
        device=device,
        workdir=Path("/nowhere"),
        labels=labels or {},
    )


def test_torchserve_listens_everywhere_inside_and_on_loopback_outside():
    inside = containers.properties(job("torchserve"))
    assert "inference_address=http://0.0.0.0:8080\n" in inside
    assert "127.0.0.1" not in inside
    outside = server_class("torchserve")(job("torchserve"), server_class("torchserve").standard_ports).properties()
    assert inside.replace("0.0.0.0", "127.0.0.1") == outside


def test_tensorflow_servings_flags_and_files_name_places_inside(tmp_path):
    given = containers.flags(job("tfserving", tuning="tuned", versions=(1, 2), labels={"stable": 1}), tmp_path)
    assert "--model_config_file=/config/models.config" in given
    assert "--enable_batching=true" in given
    assert "--allow_version_labels_for_unavailable_models=true" in given
    assert {path.name for path in tmp_path.iterdir()} == {"models.config", "monitoring.config", "batching.config"}
    named = {word.partition("=")[2] for word in given if "=/config/" in word}
    assert named == {f"/config/{path.name}" for path in tmp_path.iterdir()}
    assert 'base_path: "/models/cnn"' in (tmp_path / "models.config").read_text()


@pytest.mark.parametrize(
    ("server", "setting", "value"),
    [
        ("tfserving", "flags", {"tensorflow_session_config": "a b"}),
        ("tfserving", "flags", {"tensorflow_session_config": "it's"}),
        ("tfserving", "flags", {"tensorflow_session_config": "$HOME"}),
        ("tfserving", "flags", {"tensorflow_session_config": "a;b"}),
        ("torchserve", "jvm_args", ["-XX:OnOutOfMemoryError=kill -9 %p"]),
        ("torchserve", "environment", {"NAME": "$HOME"}),
        ("torchserve", "environment", {"NAME": "a #b"}),
        ("torchserve", "environment", {"NAME": " a"}),
    ],
)
def test_a_value_that_the_containers_tools_would_change_is_refused(server, setting, value, tmp_path):
    given = job(server)
    given = replace(given, settings={**given.settings, setting: value})
    with pytest.raises(UsageError, match="containers do not hand on as it is"):
        containers.flags(given, tmp_path) if setting == "flags" else containers.environment(server, given)


def test_what_jvm_args_and_variables_mostly_are_is_handed_on():
    given = job("torchserve")
    settings = {**given.settings, "jvm_args": ["-Xlog:gc*:stdout", "-Da=b"], "environment": {"XLA_FLAGS": "--a=1 --b=2"}}
    found = containers.environment("torchserve", replace(given, settings=settings))
    assert found["JDK_JAVA_OPTIONS"].endswith(" -Xlog:gc*:stdout -Da=b")
    assert found["XLA_FLAGS"] == "--a=1 --b=2"


def test_the_health_check_knows_every_model_and_version():
    assert containers.environment("tfserving", job("tfserving", versions=(1, 3)))["FACEOFF_MODELS"] == "cnn/1 cnn/3"


def test_a_gpu_is_hidden_only_where_none_is_wanted():
    assert containers.environment("torchserve", job("torchserve"))["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in containers.environment("torchserve", job("torchserve", device="cuda"))


def test_the_embedded_server_is_never_scraped_as_tensorflow_serving():
    assert containers.scrape("tfserving-embedded")["labels"]["server"] == "tfserving-embedded"
    assert containers.scrape("tfserving")["labels"]["server"] == "tfserving"


@pytest.mark.parametrize("servers", ["tfserving,tfserving-embedded", "torchserve,torchserve", ""])
def test_servers_of_one_place_are_refused(servers):
    with pytest.raises(UsageError, match="which take the same place"):
        containers_images.resolve(servers)


def test_a_remote_docker_engine_is_refused(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
    with pytest.raises(UsageError, match="expected a Docker engine on this machine"):
        containers_compose.Compose().check(["torchserve"], "cpu")


def test_no_docker_is_one_line_that_names_the_way_without(monkeypatch, tmp_path):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER", str(tmp_path / "docker"))
    with pytest.raises(UsageError, match="without Docker use TARGET=local"):
        containers_compose.Compose().check(["torchserve"], "cpu")


def test_what_cannot_be_taken_down_is_not_forgotten(tmp_path):
    store = Store(artifacts=tmp_path)
    containers.remember(store, containers.Running(target="compose", servers=["torchserve"], down=[["false"]]))
    with pytest.raises(FaceoffError, match="could not take down the servers"):
        containers.take_down(store)
    containers.remember(store, containers.Running(target="compose", servers=["torchserve"], down=[["true"]]))
    assert containers.take_down(store) == ["torchserve"]
    assert containers.take_down(store) == []


def test_a_tool_that_has_gone_is_a_fault_that_names_it():
    with pytest.raises(FaceoffError, match=r"could not take it down: /nowhere/docker cannot be started \(No such file"):
        containers.command(["/nowhere/docker", "down"], {}, "take it down")


def test_ports_that_are_forwarded_and_not_on_record_are_stopped_with_their_server(tmp_path, monkeypatch):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\nexec sleep 600\n")
    kubectl.chmod(0o755)
    monkeypatch.setenv("KUBECTL", str(kubectl))

    def full(store, owned):
        raise OSError("no room")

    monkeypatch.setattr(containers_k8s.state, "write", full)
    server = server_class("torchserve")(replace(job("torchserve"), workdir=tmp_path), {"torchserve rest": 1})
    with pytest.raises(OSError, match="no room"):
        containers_k8s._forward(Store(artifacts=tmp_path), [server])
    assert server.process.poll() is None
    server.stop()
    assert server.process.poll() is not None


def test_images_are_named_after_what_constraints_pin():
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements" / "constraints.txt").read_text(), re.M))
    assert containers_images.IMAGES["torchserve"].version == pinned["torchserve"]
    assert containers_images.IMAGES["tfserving-embedded"].version == pinned["tensorflow_cpu"]
    tag = re.search(r"^ARG TAG=(.+)$", (ROOT / "serving/tfserving/Dockerfile").read_text(), re.M)
    assert tag is not None
    assert containers_images.IMAGES["tfserving"].version == tag[1]


@pytest.mark.parametrize("name", ["torchserve", "tfserving"])
def test_kubernetes_base_repeats_what_would_be_deployed(name, tmp_path):
    folder = ROOT / "k8s" / "base" / name
    if name == "torchserve":
        (tmp_path / "config.properties").write_text(containers.properties(job(name)))
    else:
        flags = containers.flags(job(name), tmp_path)
        assert re.findall(r"^ +- (--.+)$", (folder / "deployment.yaml").read_text(), re.M) == flags
    pairs = {**containers.environment(name, job(name)), "FACEOFF_DELIVERY": "current"}
    (tmp_path / "environment").write_text("".join(f"{key}={value}\n" for key, value in pairs.items()))
    for path in tmp_path.iterdir():
        assert (folder / path.name).read_text() == path.read_text(), path.name


def test_dashboard_asks_each_server_the_same():
    board = json.loads((ROOT / "serving/compose/grafana/dashboards/faceoff.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert "torchserve" not in target["expr"]
            assert "tfserving" not in target["expr"]
            assert "{{server}}" in target["legendFormat"]


def test_the_embedded_servers_image_holds_what_the_server_imports():
    copied = " ".join(re.findall(r"^COPY (.+)$", (ROOT / "serving/embedded/Dockerfile").read_text(), re.M)).split()
    for path in (ROOT / "serving" / "embedded").glob("*.py"):
        if path.name == "bench.py":
            continue  # a command of the checkout, not of the server
        for line in re.findall(r"^\s*(?:from|import) ((?:faceoff|serving)\b.*)$", path.read_text(), re.M):
            words = line.replace(" import ", ".").replace(",", " ").split()
            package = words[0].split(".")
            place = package[0] if package[0] == "faceoff" else "/".join(package[:2])
            assert place in copied or f"{place}.py" in copied, f"{path.name} imports {line}"
