import json
import os
import socket

import pytest

from experiment import demo
from faceoff import endpoints, manifest, processes
from faceoff.store import Store
from serving import state
from serving.owned import Owned
from tests.unit.faceoff.test_endpoints import endpoint


@pytest.fixture
def store(tmp_path):
    """Manifests that fit one another, as the three stages would have left them."""
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    folders = {"train": store.model_dir("cnn"), "export": store.export_dir("cnn", 1), "verify": store.verify_dir("cnn", 1)}
    (folders["train"] / "golden").mkdir(parents=True)
    (folders["train"] / "golden" / "inputs.npz").write_text("g")
    (folders["train"] / "weights.npz").write_text("w")
    manifest.write(folders["train"], stage="train", model="cnn", config={"profile": "quick"})
    for name, before in (("export", "train"), ("verify", "export")):
        folders[name].mkdir(parents=True, exist_ok=True)
        (folders[name] / "file").write_text(name)
        inputs = {before: manifest.sha256(folders[before] / "manifest.json")}
        metrics = {"artifacts": [{"status": "verified"}]}
        manifest.write(folders[name], stage=name, model="cnn", inputs=inputs, metrics=metrics)
    return store


def test_nothing_is_missing_when_every_stage_fits_the_one_before(store):
    assert demo.missing_stages(store, "cnn") == []


def test_everything_is_missing_on_a_bare_checkout(tmp_path):
    assert demo.missing_stages(Store(artifacts=tmp_path), "cnn") == ["train", "export", "verify"]


def test_a_changed_file_runs_its_stage_and_the_later_ones_again(store):
    (store.export_dir("cnn", 1) / "file").write_text("changed")
    assert demo.missing_stages(store, "cnn") == ["export", "verify"]


def test_a_new_training_runs_export_and_verify_again(store):
    manifest.write(store.model_dir("cnn"), stage="train", model="cnn", config={"seed": 2})
    assert demo.missing_stages(store, "cnn") == ["export", "verify"]


def test_a_refused_artifact_is_verified_again(store):
    path = store.verify_dir("cnn", 1) / "manifest.json"
    data = json.loads(path.read_text())
    data["metrics"]["artifacts"] = [{"status": "refused"}]
    path.write_text(json.dumps(data))
    assert demo.missing_stages(store, "cnn") == ["verify"]


def test_only_living_servers_of_this_export_are_taken_for_deployed(store):
    assert not demo.deployed(store, "cnn")
    me = Owned(server="x", pid=os.getpid(), started=processes.started(os.getpid()) or "", log="")
    state.write(store, [me])
    endpoints.write(store.endpoints, [endpoint("torchserve")])
    assert not demo.deployed(store, "cnn")  # of another export
    current = manifest.sha256(store.export_dir("cnn", 1) / "manifest.json")
    data = json.loads(store.endpoints.read_text())
    data[0]["export_sha256"] = current
    store.endpoints.write_text(json.dumps(data))
    assert demo.deployed(store, "cnn")
    state.write(store, [Owned(server="x", pid=os.getpid(), started="some other time", log="")])
    assert not demo.deployed(store, "cnn")


def test_a_deploy_of_somebody_else_is_left_alone(store, capsys):
    roots = ("--artifacts", str(store.artifacts), "--results", str(store.results))
    with state.lock(store, "deploy"):
        assert demo.main(["--servers", "tfserving-embedded", *roots]) == 2
    captured = capsys.readouterr()
    error = json.loads(captured.out.strip().splitlines()[-1])["error"]
    assert error.endswith("wait until it has ended, then deploy again")  # and not "then undeploy again"
    for name, words in (("train", "profile quick"), ("export", "exports of this training"), ("verify", "proof of these exports")):
        assert any(line.startswith(f"== {name}: skipped") and words in line for line in captured.err.splitlines())


def test_a_training_that_is_too_short_is_done_again(store):
    assert demo.trained_profile(store, "cnn") == "quick"
    assert demo.shorter("cnn", "quick", "full")
    assert not demo.shorter("cnn", "quick", "quick")
    assert not demo.shorter("cnn", "full", "quick")  # an hour's training is not replaced by a minute's
    assert demo.shorter("cnn", demo.trained_profile(store, "mlp"), "quick")


def test_a_port_in_use_is_said_before_anything_is_trained(tmp_path, capsys):
    roots = ("--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo.main(["--servers", "tfserving-embedded", "--ports", f"tfserving-rest={port}", *roots]) == 2
    assert f"port {port} (tfserving rest) is in use" in json.loads(capsys.readouterr().out.strip().splitlines()[-1])["error"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "nope"], "unknown model 'nope'"),
        (["--profile", "nope"], "unknown profile 'nope'"),
        (["--protocols", "rest,nope"], "unknown protocol 'nope'"),
        (["--protocols", ""], "PROTOCOLS=: expected one or more different protocols"),
        (["--device", "nope"], "unknown device 'nope'"),
        (["--servers", "nope"], "unknown server 'nope'"),
        (["--servers", "tfserving-embedded", "--tuning", "nope"], "unknown settings of tfserving-embedded 'nope'"),
        (["--servers", "torchserve"], "/no/such/java"),
        (["--servers", "tfserving-embedded", "--ports", "nope"], "unknown ports 'nope'"),
        (["--run", "../up"], "run name"),
    ],
)
def test_a_mistake_is_said_before_anything_is_trained(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAVA_HOME", "/no/such/java")
    code = demo.main([*options, "--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r")])
    captured = capsys.readouterr()
    assert code == 2
    assert words in json.loads(captured.out.strip().splitlines()[-1])["error"]
    assert len(captured.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
