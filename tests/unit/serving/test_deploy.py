"""serving.deploy: how far the answers of a served model may be from the golden outputs, and what it and its like refuse."""

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
from concurrent import futures
from types import SimpleNamespace
from typing import ClassVar

import grpc
import grpc.aio
import pytest

from faceoff import presets, servables
from faceoff.endpoints import nowhere
from faceoff.errors import FaceoffError, UsageError
from faceoff.signature import image_classifier
from serving import bench, deploy, examples, interrupts, lifecycle
from serving import tfs_stubs as tfs
from serving.client import DIRECT
from serving.lifecycle import Job, Launch, Served
from serving.servers import tfserving
from serving.servers.embedded import Embedded
from serving.servers.torchserve import TorchServe
from tests.unit.faceoff.test_servables import ROWS, two_precisions

WIRE = presets.model("cnn").tolerances.wire
TRAINED = SimpleNamespace(manifest=SimpleNamespace(model="cnn"), signature=None)


@pytest.mark.parametrize(("row", "tolerance"), [(ROWS[0], WIRE), (ROWS[1], 0.47)])
def test_the_tolerance_is_the_wires_or_the_wider_one_of_a_lower_precision(tmp_path, row, tolerance):
    _, form, path, precision, verified_within = row
    found = deploy.served(two_precisions(tmp_path), TRAINED, form, 1)
    assert (found.artifact.name, found.precision, found.tolerance) == (path, precision, tolerance)
    assert verified_within <= tolerance


def refused(capsys, tmp_path, *options: str) -> str:
    """What deploy refuses, from an empty store; it has a line on stderr and the error of the JSON line."""
    roots = ("--artifacts", str(tmp_path / "artifacts"), "--results", str(tmp_path / "results"))
    assert deploy.main(["--servers", "torchserve", *options, *roots]) == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    return json.loads(printed.out)["error"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--labels", "a=1,a=2", "--version", "1,2"], "LABELS=a=1,a=2: found 'a' twice, expected each once"),
        (["--ports", "torchserve-rest=8080,torchserve-rest=8081"], "found 'torchserve-rest' twice, expected each once"),
        (["--ports", "nowhere=8080"], "PORTS=nowhere=8080: found 'nowhere'"),
        (["--encodings", "json,gif"], "unknown encoding 'gif'"),
    ],
)
def test_labels_and_ports_are_checked_before_an_earlier_deploy_is_stopped(tmp_path, capsys, options, words):
    assert words in refused(capsys, tmp_path, *options)
    assert not (tmp_path / "artifacts").exists()


@pytest.fixture
def handlers():
    """Of signals: what deploy changes in its own process is put back."""
    before = {number: signal.getsignal(number) for number in interrupts.INTERRUPTS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a runner of the tests under nohup ignores it
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Sleeper(TorchServe):
    """A server that never answers."""

    made: ClassVar = []

    def __init__(self, *about):
        super().__init__(*about)
        self.made.append(self)

    @classmethod
    def check(cls):
        pass

    def launch(self):
        return Launch(argv=[sys.executable, "-c", "import time; time.sleep(600)"])

    def wait_ready(self):
        raise FaceoffError("it never answered")


@pytest.fixture
def sleeping(tmp_path, monkeypatch, handlers):
    """What runs deploy of a Sleeper to its end; returns the code, what it printed, and the server."""
    one = Served(
        model="cnn",
        version=1,
        artifact=tmp_path,
        export_sha256="",
        signature=image_classifier((2, 2, 1), 3),
        precision="float32",
        tolerance=1e-4,
    )
    monkeypatch.setattr(Sleeper, "made", [])
    monkeypatch.setattr(deploy, "server_class", lambda name: Sleeper)
    monkeypatch.setattr(deploy.servables, "read_trained", lambda store, model: None)
    monkeypatch.setattr(deploy, "served", lambda *about: one)
    roots = ("--artifacts", str(tmp_path / "artifacts"), "--results", str(tmp_path / "results"))

    def run(capsys):
        code = deploy.main(["--servers", "torchserve", "--ports", "free", *roots])
        (server,) = Sleeper.made
        return code, capsys.readouterr(), server

    yield run
    for server in Sleeper.made:
        server.stop()


def test_a_server_that_is_not_on_record_is_stopped_when_deploy_fails(sleeping, capsys, monkeypatch):
    def full(store, owned):
        raise OSError("no room")

    monkeypatch.setattr(deploy.state, "write", full)
    code, printed, server = sleeping(capsys)
    assert (code, json.loads(printed.out.splitlines()[-1])["error"]) == (1, "OSError: no room")
    assert server.process.returncode is not None


@pytest.mark.parametrize("number", interrupts.INTERRUPTS)
def test_an_interrupt_in_the_middle_of_a_start_leaves_nothing_running(sleeping, capsys, monkeypatch, number):
    started, record = [], []

    class Popen(subprocess.Popen):
        def __init__(self, argv, **options):
            super().__init__(argv, **options)
            if "-c" in argv:
                started.append(self)
                os.kill(os.getpid(), number)  # the process is there, and nobody has its number yet

    monkeypatch.setattr(lifecycle.subprocess, "Popen", Popen)
    monkeypatch.setattr(deploy.state, "write", lambda store, owned: record.extend(owned))
    code, printed, _ = sleeping(capsys)
    assert (code, json.loads(printed.out.splitlines()[-1])["error"]) == (1, "interrupted")
    assert [owned.pid for owned in record] == [process.pid for process in started]
    assert started[0].poll() is not None


def test_why_deploy_failed_comes_before_what_could_not_be_cleaned_up(sleeping, capsys, monkeypatch):
    answers = iter([[], FaceoffError("docker has gone")])

    def take_down(store, *, forget):
        if isinstance(answer := next(answers), FaceoffError):
            raise answer
        return answer

    monkeypatch.setattr(deploy.state.containers, "take_down", take_down)
    code, printed, server = sleeping(capsys)
    assert (code, json.loads(printed.out.splitlines()[-1])["error"]) == (1, "it never answered")
    assert "deploy: and then: docker has gone" in printed.err
    assert server.process.returncode is not None


@pytest.mark.parametrize(
    ("policy", "versions", "fits"), [("latest", (1, 2), False), ("latest", (2,), True), ("all", (1, 2), True)]
)
def test_several_versions_where_just_the_latest_is_served_are_refused_at_once(tmp_path, policy, versions, fits):
    several = [SimpleNamespace(model="cnn", version=version) for version in versions]
    job = Job(
        served=tuple(several),
        artifact_format="saved_model",
        settings=Embedded.settings("default", {"version_policy": policy}),
        cores=(0,),
        device="cpu",
        workdir=tmp_path,
    )
    if fits:
        return Embedded.check_job(job)
    with pytest.raises(UsageError, match=r"version_policy='latest', which serves version 2 of 'cnn' alone, and VERSION=1,2"):
        Embedded.check_job(job)


def test_deploy_asks_before_it_stops_anything(sleeping, capsys, monkeypatch):
    def refuse(job):
        raise UsageError("not this")

    monkeypatch.setattr(Sleeper, "check_job", refuse)
    monkeypatch.setattr(deploy.state, "stop_all", lambda store: pytest.fail("stopped"))
    with pytest.raises(ValueError, match="not enough values"):  # no server was made
        sleeping(capsys)
    assert json.loads(capsys.readouterr().out)["error"] == "not this"


def test_bench_asks_without_a_proxy(monkeypatch):
    class Opened(Exception):  # noqa: N818  no error
        pass

    def channel(target, *, options):
        raise Opened(options)

    monkeypatch.setattr(grpc.aio, "insecure_channel", channel)
    subject = bench.Subject(endpoint=nowhere("tfserving-embedded", "cnn", 1), transport="")
    with pytest.raises(Opened) as caught:
        asyncio.run(bench._measure([subject], None, 0.1, 1))
    assert DIRECT in caught.value.args[0]


def test_readiness_is_asked_without_a_proxy(monkeypatch):
    class Status(tfs.model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):  # noqa: N802
            state = tfs.get_model_status_pb2.ModelVersionStatus.AVAILABLE
            found = tfs.get_model_status_pb2.ModelVersionStatus(version=1, state=state)
            return tfs.get_model_status_pb2.GetModelStatusResponse(model_version_status=[found])

    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tfserving, "_version_states", lambda endpoint: {"1": "AVAILABLE"})
    server = grpc.server(futures.ThreadPoolExecutor(1))
    tfs.model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        there = dataclasses.replace(nowhere("tfserving-embedded", "cnn", 1), grpc_target=f"127.0.0.1:{port}")
        assert Embedded.is_ready(there)
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("command", [bench, examples])
def test_an_unknown_model_is_called_so(tmp_path, capsys, command):
    assert command.main(["--model", "nope", "--artifacts", str(tmp_path)]) == 2
    assert "unknown model 'nope': expected one of" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_examples_go_into_a_folder(tmp_path, capsys, monkeypatch, out):
    (tmp_path / "file").touch()
    rows = SimpleNamespace(rows=lambda first, count: SimpleNamespace(inputs={}))
    monkeypatch.setattr(servables, "read_trained", lambda store, model: SimpleNamespace(golden=rows))
    assert examples.main(["--out", str(tmp_path / out), "--artifacts", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert f"--out {tmp_path / out}: " in json.loads(printed.out)["error"]
    assert len(printed.err.splitlines()) == 1
