"""loadtest.plan. Nothing listens: the plan is checked before anything is started."""

import ipaddress
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from faceoff import cores, golden
from faceoff.errors import CorruptError, MissingStageError, UsageError
from faceoff.store import Store
from loadtest import plan, targets
from loadtest.options import Options
from tests.fakes import model_servers
from tests.fakes.model_servers import Servers

NOBODY = Servers(rest_url="http://127.0.0.1:9", grpc_target="127.0.0.1:10", pid=0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    model_servers.deploy(store, NOBODY)
    return store


def make(store: Store, **choices: Any) -> plan.Plan:
    return plan.make(Options(run="x", artifacts=store.artifacts, results=store.results, **choices))


def edit_endpoints(store: Store, *changes: dict[str, Any]) -> None:
    items = json.loads(store.endpoints.read_text())
    store.endpoints.write_text(json.dumps([{**items[0], **change} for change in changes]))


def test_everything_deployed_is_planned(store: Store) -> None:
    made = make(store)
    assert [target.name for target in made.targets] == ["tfserving-embedded-rest-json", "tfserving-embedded-grpc-tensor"]
    assert [(target.host, target.port) for target in made.targets] == [("127.0.0.1", 9), ("127.0.0.1", 10)]
    assert made.scenarios == ("closed", "server")
    assert (made.connections, made.rate, made.cores) == (made.profile.closed_connections, None, cores.split())
    assert [len(target.pool().payloads) for target in made.targets] == [16, 16]
    assert made.targets[0].pool().encode_us
    assert made.run_dir == store.results / "x"
    json.dumps(made.config())


def test_choices_narrow_it(store: Store) -> None:
    made = make(store, servers="tfserving,tfserving-embedded", protocols="grpc", scenarios="closed", connections=2)
    assert [target.name for target in made.targets] == ["tfserving-embedded-grpc-tensor"]
    assert (made.scenarios, made.connections) == (("closed",), 2)


def test_answers_are_judged_within_the_endpoints_tolerance_and_a_lower_precision_is_named(store: Store) -> None:
    edit_endpoints(store, {"precision": "bf16", "tolerance": 0.5})
    (target, _) = make(store).targets
    assert target.name == "tfserving-embedded-bf16-rest-json"
    expected = golden.read(store.model_dir("cnn") / "golden", model_servers.SIGNATURE).outputs["logits"][:1]

    def problem(judged: targets.Target, off: float) -> str | None:
        assert judged.problem is not None
        return judged.problem(0, json.dumps({"predictions": (expected + off).tolist()}).encode())

    assert problem(target, 0.4) is None
    assert "exceeds the tolerance 0.5" in (problem(target, 0.6) or "")
    edit_endpoints(store, {"precision": "float32", "tolerance": 1e-4})
    assert "exceeds the tolerance 0.0001" in (problem(make(store).targets[0], 0.4) or "")


def test_server_alone_brings_closed_unless_the_rate_is_given(store: Store) -> None:
    assert make(store, scenarios="server").scenarios == ("closed", "server")
    assert make(store, scenarios="server", rate=50.0).scenarios == ("server",)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"model": "cnm"}, "unknown model 'cnm'"),
        ({"scenarios": "closed,online"}, "unknown scenario 'online': expected one of burst, closed,"),
        ({"protocols": "http"}, "unknown protocol 'http'"),
        ({"profile": "slow"}, "unknown profile 'slow'"),
        ({"servers": "apache"}, "unknown deployed server 'apache'"),
        ({"connections": 0}, "connections 0: expected 1 to"),
        ({"connections": 10**6}, "connections 1000000: expected 1 to"),
        ({"rate": 0.0}, "rate 0: expected at least"),
        ({"rate": float("nan")}, "rate nan: expected at least"),
        ({"version": 7}, "no endpoint serves version 7"),
        ({"engines": 0}, "engines 0: expected 1 to"),
        ({"keep_alive": 2}, "keep-alive 2: expected 1"),
        ({"engines": 3, "connections": 2}, "connections 2: expected at least one for each of the 3 engines"),
        ({"encodings": "b64"}, "takes no encoding 'b64' over rest (in its JSON {\"b64\": ...} is a string tensor"),
        ({"encodings": "raw", "protocols": "grpc"}, "takes no encoding 'raw' over grpc"),
    ],
)
def test_mistakes(store: Store, choices: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        make(store, **choices)
    assert words in str(error.value)


def test_encodings_are_an_axis_and_what_a_server_does_not_take_is_said(store: Store) -> None:
    made = make(store, encodings="json,b64,tensor,float_val", scenarios="closed")
    assert [target.name for target in made.targets] == [
        f"tfserving-embedded-{way}" for way in ("rest-json", "grpc-tensor", "grpc-float_val")
    ]
    [why] = made.left_out  # not json over gRPC, which is nobody's
    assert why.startswith("tfserving-embedded takes no encoding 'b64' over rest (in its JSON")
    assert made.config()["left_out"] == [why]


def test_engines_have_cores_of_their_own_where_there_are_some(store: Store) -> None:
    made = make(store, engines=2)
    assert made.cores == cores.split(generators=2)
    assert cores.split({0, 1, 2, 3}, generators=2) == cores.CoreSplit(servers=(0, 1), generator=(2, 3))
    assert cores.split({0, 1}, generators=2) == cores.CoreSplit(servers=(0,), generator=(1,))
    assert cores.split({0}, generators=2).shared


def test_a_run_name_is_a_folder_name(store: Store) -> None:
    with pytest.raises(UsageError, match="run name"):
        plan.make(Options(run="../x", artifacts=store.artifacts, results=store.results))


def test_nothing_deployed(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match="make deploy"):
        make(Store(artifacts=tmp_path, results=tmp_path))


def test_other_artifacts_than_the_deployed_ones(store: Store) -> None:
    path = store.export_dir("cnn", 1) / "manifest.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(UsageError, match="deployed artifacts are not the ones on disk; run make undeploy deploy"):
        make(store)


def test_broken_golden_data(store: Store) -> None:
    (store.model_dir("cnn") / "golden" / "inputs.npz").write_bytes(b"nonsense")
    with pytest.raises(CorruptError, match="make train"):
        make(store)


def test_two_versions_of_one_server(store: Store) -> None:
    store.export_dir("cnn", 2).symlink_to("1")
    edit_endpoints(store, {"version": 1}, {"version": 2})
    with pytest.raises(UsageError, match=r"versions \[1, 2\] of 'cnn' are deployed: say which one with VERSION="):
        make(store)
    assert {target.endpoint.version for target in make(store, version=2).targets} == {2}


@pytest.mark.parametrize(
    ("target", "found"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("localhost:81", ("127.0.0.1", 81)), ("[::1]:82", ("::1", 82)), ("127.9.9.9:1", None)],
)
def test_loopback_is_where_load_goes(target: str, found: tuple[str, int] | None) -> None:
    assert targets.destination(target) == (found or ("127.9.9.9", 1))


def test_a_cluster_names_the_services_that_may_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    name = socket.gethostname()
    if not re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name):
        pytest.skip(f"this machine's name {name!r} is none that a Service could have")
    with pytest.raises(UsageError, match="load is sent nowhere else"):
        targets.destination(f"{name}:80")
    monkeypatch.setenv(targets.HOSTS, f"other,{name}")
    host, port = targets.destination(f"{name}:80")
    assert (ipaddress.ip_address(host).version in (4, 6), port) == (True, 80)  # the engine connects to addresses
    for target in (f"{name}", f"{name}.example.org:80", "10.0.0.1:80"):
        with pytest.raises(UsageError, match="load is sent nowhere else"):
            targets.destination(target)


@pytest.mark.parametrize("named", ["example.org", "10.0.0.1", "a,b.c", "*", "A"])
def test_a_name_that_could_be_of_another_place_is_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(targets.HOSTS, named)
    with pytest.raises(UsageError, match="expected names of Services"):
        targets.destination("127.0.0.1:80")


def test_a_name_that_does_not_resolve_is_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(targets.HOSTS, "no-such-service-here")
    with pytest.raises(UsageError, match="expected a Service of this namespace"):
        targets.destination("no-such-service-here:80")


@pytest.mark.parametrize("target", ["example.org:80", "10.0.0.1:80", "127.0.0.1", "0.0.0.0:80", "127.0.0.1:99999", ""])
def test_load_goes_nowhere_else(store: Store, target: str) -> None:
    with pytest.raises(UsageError, match="target"):
        targets.destination(target)
    edit_endpoints(store, {"grpc_target": target})
    with pytest.raises(UsageError, match="target"):
        make(store)
