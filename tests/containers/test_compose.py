"""TARGET=compose for real: our Dockerfiles built, both servers in containers, wire parity, load, Prometheus, a graceful stop.

`make e2e-containers`. One engine, one deploy and one load test serve every test here. Nothing is pulled from a registry, so
TensorFlow Serving's own image is not run: the embedded server is in its place.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from faceoff import endpoints
from faceoff.store import Store
from serving import containers, containers_compose
from serving.servers import server_class
from tests.conftest import ROOT, Run, roots, run_module
from tests.containers import engine as engine_module
from tests.containers.engine import docker

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]

SERVERS = ("torchserve", "tfserving-embedded")
PROMETHEUS_IMAGE = "faceoff-test/prometheus:debian"
LOADTEST_IMAGE = "faceoff-test/loadtest:now"
STAND_IN_IMAGE = "faceoff-test/tfserving:stand-in"
KINDS = ("pkg:deb/", "pkg:pypi/")
QUERY_DEADLINE_S = 120


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What all tests look at."""

    environment: dict[str, str]
    store: Store
    deployed: Run
    loaded: Run
    folder: Path
    requests: dict[str, float]  # counted by each server during the load test

    @property
    def compose(self) -> list[str]:
        return containers_compose.command_line(self.folder, ["*"])[1:]

    def inspect(self, server: str) -> dict[str, Any]:
        container = next(e.container for e in endpoints.read(self.store) if e.server == server)
        return json.loads(docker(self.environment, "inspect", container))[0]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    try:
        with engine_module.engine(tmp_path_factory.mktemp("engine")) as environment, engine_module.wheelhouse():
            yield environment
    except engine_module.NotHereError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def stack(engine: dict[str, str], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The base image is made while a model is trained, the load suite's while the servers' are built by deploy."""
    with ThreadPoolExecutor(max_workers=1) as beside:
        base = beside.submit(engine_module.make_base, engine, tmp_path_factory.mktemp("base"))
        store: Store = request.getfixturevalue("exported")
        try:
            base.result()
        except engine_module.NotHereError as error:
            pytest.skip(str(error))
        engine_module.build(engine, PROMETHEUS_IMAGE, "tests/containers/prometheus.Dockerfile")
        load_image = beside.submit(engine_module.build, engine, LOADTEST_IMAGE, "loadtest/Dockerfile")
        images = {"PROMETHEUS_IMAGE": PROMETHEUS_IMAGE, "LOADTEST_IMAGE": LOADTEST_IMAGE}
        environment = {**engine, **images, "MONITORING": "prometheus", "PROMETHEUS_PORT": "0"}
        options = ("--target", "compose", "--servers", ",".join(SERVERS), "--ports", "free")
        try:
            done = run_module("serving.deploy", *options, *roots(store), env=environment, timeout_s=1200)
            assert done.code == 0, done.stderr[-5000:]
            load_image.result()
            before = counted(store)
            loaded = load(store, environment)
            after = counted(store)
            yield Stack(
                environment=environment,
                store=store,
                deployed=done,
                loaded=loaded,
                folder=(store.deploy_dir / "compose").resolve(),
                requests={server: after[server] - before[server] for server in SERVERS},
            )
        finally:
            run_module("serving.undeploy", *roots(store), env=environment)


def counted(store: Store) -> dict[str, float]:
    """Requests so far, as each server counts them."""
    readings = {e.server: server_class(e.server).metrics(e).requests for e in endpoints.read(store)}
    return {server: requests or 0.0 for server, requests in readings.items()}


def load(store: Store, environment: dict[str, str]) -> Run:
    """One load test from the load container, which must not lose its exit code or its rows."""
    store.results.mkdir(parents=True, exist_ok=True)
    compose = containers_compose.command_line((store.deploy_dir / "compose").resolve(), ["*"])[1:]
    words = (
        "run",
        "--rm",
        "--no-TTY",
        "generator",
        "--scenarios",
        "closed",
        "--duration",
        "2",
        "--rest",
        "5",
        "--run",
        "contained",
    )
    done = subprocess.run(
        [environment["DOCKER"], *compose, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    assert lines, done.stderr[-5000:]
    return Run(code=done.returncode, result=json.loads(lines[-1]), stdout=done.stdout, stderr=done.stderr)


def test_every_server_answers_the_golden_rows_from_its_container(stack):
    assert stack.deployed.result["endpoints"] == list(SERVERS)
    assert stack.deployed.result["parity_checks"] > 0
    found = endpoints.read(stack.store)
    assert all(e.container and e.rest_url.startswith("http://127.0.0.1:") for e in found)
    assert next(e.implementation for e in found if e.server == "tfserving-embedded").startswith("tfserving-embedded")


def test_containers_are_closed_and_equal(stack):
    limits = []
    for server in SERVERS:
        found = stack.inspect(server)
        host = found["HostConfig"]
        assert found["Config"]["User"] == "1000:1000"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert {binding["HostIp"] for each in host["PortBindings"].values() for binding in each} == {"127.0.0.1"}
        assert found["State"]["Health"]["Status"] == "healthy"
        limits.append({name: host[name] for name in ("Memory", "MemorySwap", "CpusetCpus", "NanoCpus", "PidsLimit", "ShmSize")})
    assert limits[0] == limits[1]
    assert limits[0]["CpusetCpus"]


def test_the_gpu_profile_asks_for_one_gpu_each_and_differs_in_nothing_else(stack):
    """Rendered by Compose; no GPU here runs it."""
    services = json.loads(docker(stack.environment, *stack.compose, "config", "--format", "json"))["services"]
    for server in ("torchserve", "tfserving"):
        gpu, cpu = services[f"{server}-gpu"], services[server]
        devices = gpu.pop("deploy")["resources"]["reservations"]["devices"]
        assert [(d["driver"], int(d["count"]), d["capabilities"]) for d in devices] == [("nvidia", 1, ["gpu"])]
        assert gpu.pop("networks") == {"faceoff": {"aliases": [server]}}
        del gpu["profiles"], cpu["profiles"], cpu["networks"]
        assert gpu == cpu


def test_the_server_itself_is_process_1(stack):
    def first(server: str) -> str:
        return docker(stack.environment, "exec", stack.inspect(server)["Id"], "cat", "/proc/1/cmdline").split("\0")[0]

    assert first("torchserve") == "/opt/java/bin/java"
    assert first("tfserving-embedded") == "/opt/venv/bin/python"


def test_health_checks_say_what_is_wrong(stack):
    """One that cannot fail would be worse than none: another model is not ready, and a true prediction is asked for at start."""
    for server, word in (("torchserve", "torchserve"), ("tfserving-embedded", "tfserving")):
        container = stack.inspect(server)["Id"]
        docker(stack.environment, "exec", container, "/opt/healthcheck.sh", word, "start")
        for models in ("cnn/7", "nope/1", ""):
            argv = ["exec", "--env", f"FACEOFF_MODELS={models}", container, "/opt/healthcheck.sh", word]
            done = subprocess.run([stack.environment["DOCKER"], *argv], env={**os.environ, **stack.environment}, check=False)
            assert done.returncode == 1, (server, models)


def test_every_image_carries_a_list_of_what_is_in_it(stack):
    """Valid by CycloneDX's own schema, and dpkg and Python inside the image name the same packages."""
    names = {server: stack.inspect(server)["Config"]["Image"] for server in SERVERS}
    wanted = {"torchserve": {"torch", "torchserve", "OpenJDK"}, "tfserving-embedded": {"tensorflow_cpu"}, "loadtest": {"locust"}}
    for name, image in {**names, "loadtest": LOADTEST_IMAGE}.items():
        text, document = listed(stack, image)
        found = {kind: {(c["name"], c["version"]) for c in document["components"] if kind in c.get("purl", "")} for kind in KINDS}
        assert wanted[name] | {"CPython", "debian", "numpy"} <= {c["name"] for c in document["components"]}
        shown = docker(stack.environment, "run", "--rm", "--entrypoint=dpkg-query", image, "-W", "-f=${Package} ${Version}\n")
        assert found["pkg:deb/"] == {tuple(line.split()) for line in shown.splitlines()}
        words = "from importlib.metadata import distributions as d; print(*(f'{x.name} {x.version}' for x in d()), sep='\\n')"
        python = ("run", "--rm", "--env=PYTHONPATH=", "--entrypoint=/opt/venv/bin/python", "--workdir=/", image, "-c", words)
        assert found["pkg:pypi/"] == {tuple(line.split()) for line in docker(stack.environment, *python).splitlines()}
        assert validated(stack, text) == "None"


def test_tensorflow_servings_dockerfile_lists_the_image_that_it_starts_from(stack):
    """Its steps over a stand-in for Google's image, which cannot be pulled: the list has the program and the base's packages."""
    docker(stack.environment, "tag", engine_module.BASE, "tensorflow/serving:stand-in")
    engine_module.build(stack.environment, STAND_IN_IMAGE, "serving/tfserving/Dockerfile", "--build-arg=TAG=stand-in")
    text, document = listed(stack, STAND_IN_IMAGE)
    assert {"tensorflow_model_server", "debian", "libc6"} <= {c["name"] for c in document["components"]}
    assert not any("pkg:pypi/" in c.get("purl", "") for c in document["components"])
    assert validated(stack, text) == "None"


def listed(stack: Stack, image: str) -> tuple[str, dict[str, Any]]:
    """The SBOM of an image, where its label says."""
    path = docker(stack.environment, "inspect", "--format", '{{index .Config.Labels "faceoff.sbom"}}', image).strip()
    text = docker(stack.environment, "run", "--rm", "--entrypoint=cat", image, path)
    return text, json.loads(text)


def validated(stack: Stack, text: str) -> str:
    """What CycloneDX's validator finds."""
    words = "from cyclonedx.validation.json import JsonStrictValidator as J; from cyclonedx.schema import SchemaVersion as S; "
    words += "import sys; print(J(S.V1_6).validate_str(sys.stdin.read()))"
    environment = {**os.environ, "PYTHONPATH": str(engine_module.tools(stack.environment))}
    argv = [sys.executable, "-c", words]
    return subprocess.run(argv, env=environment, input=text, capture_output=True, text=True, check=True).stdout.strip()


def test_status_tells_of_containers(stack):
    done = run_module("serving.status", *roots(stack.store), env=stack.environment)
    assert [(r["server"], r["ready"]) for r in done.result["servers"]] == [(server, True) for server in SERVERS]
    assert all(r["rss_mib"] > 0 for r in done.result["servers"])


def test_load_from_a_container_loses_no_row(stack):
    """Each request that a server counted is a row, warm-up and repeats included, and none is wrong."""
    import pyarrow.parquet

    assert (stack.loaded.code, stack.loaded.result["status"]) in {(0, "ok"), (3, "invalid")}, stack.loaded.stderr[-3000:]
    folder = stack.store.run_dir("contained")
    measurements = json.loads((folder / "summary.json").read_text())["measurements"]
    assert {(m["server"], m["protocol"]) for m in measurements} == {(s, p) for s in SERVERS for p in ("rest", "grpc")}
    for measurement in measurements:
        assert measurement["num_requests"] > 0
        assert measurement["num_wrong"] == 0
        assert pyarrow.parquet.read_metadata(folder / measurement["samples"]).num_rows == measurement["num_requests"]
    for server in SERVERS:
        rows = sum(m["num_requests"] for m in measurements if m["server"] == server)
        assert 0 < rows <= stack.requests[server]


def shared(stack: Stack, run: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`up` of Locust's master and workers, two expected."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    options = f"--scenarios=closed --protocols=rest --servers=tfserving-embedded --duration=2 --rest=0 --run={run}"
    compose = containers_compose.command_line(stack.folder, ["load"])[1:]
    return subprocess.run(
        [stack.environment["DOCKER"], *compose, "up", "--exit-code-from", "master", *words],
        env={**os.environ, **stack.environment, "LOAD_OPTIONS": options, "LOAD_PORT": port},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_master_and_two_workers_merge_every_row_and_end_with_the_status_of_the_run(stack):
    import pyarrow.parquet

    before = counted(stack.store)["tfserving-embedded"]
    done = shared(stack, "shared")
    assert done.returncode in (0, 3), (done.stdout + done.stderr)[-3000:]
    folder = stack.store.run_dir("shared")
    [measurement] = json.loads((folder / "summary.json").read_text())["measurements"]
    assert measurement["valid"] == (done.returncode == 0)
    assert measurement["num_wrong"] == 0
    assert len(measurement["workers"]) == 2
    assert all(worker["num_requests"] > 0 for worker in measurement["workers"])
    rows = pyarrow.parquet.read_metadata(folder / measurement["samples"]).num_rows
    assert rows == measurement["num_requests"] == sum(worker["num_requests"] for worker in measurement["workers"])
    assert rows <= counted(stack.store)["tfserving-embedded"] - before


def test_a_worker_too_many_is_a_fault_and_nothing_is_merged(stack):
    done = shared(stack, "three", "--scale", "worker=3")
    assert done.returncode == 1, (done.stdout + done.stderr)[-3000:]
    assert "3 workers came: 2 were expected" in done.stdout + done.stderr
    assert not stack.store.run_dir("three").exists()


def test_prometheus_answers_every_query_of_the_dashboard_and_the_rules(stack):
    """Against a live Prometheus that scrapes both: every panel shows both servers, every rule evaluates without an error."""
    address = docker(stack.environment, *stack.compose, "port", "prometheus", "9090").strip()
    board = json.loads((ROOT / "serving/compose/grafana/dashboards/faceoff.json").read_text())
    rules = yaml.safe_load((ROOT / "serving/compose/prometheus/rules.yml").read_text())
    panels = {target["expr"] for panel in board["panels"] for target in panel["targets"]}
    expressions = {rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    assert len(panels) > 4
    for expression in panels:
        deadline = time.monotonic() + QUERY_DEADLINE_S
        # The load test is over for some time: what was seen since the start is what counts, not this moment.
        query = f"last_over_time(({expression})[30m:5s])"
        while (seen := {r["metric"].get("server") for r in ask(address, query)}) != set(SERVERS):
            assert time.monotonic() < deadline, f"{expression}: Prometheus shows {seen}"
            time.sleep(1)
    for expression in expressions:
        ask(address, expression)
    served = get(address, "/api/v1/rules")["data"]["groups"]
    states = {rule["name"]: (rule["health"], rule.get("lastError")) for group in served for rule in group["rules"]}
    assert set(states.values()) <= {("ok", None), ("ok", ""), ("unknown", None)}, states
    assert len(states) == len({rule.get("record") or rule["alert"] for group in rules["groups"] for rule in group["rules"]})


def ask(address: str, query: str) -> list[dict[str, Any]]:
    """The result of an instant query."""
    answer = get(address, "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
    assert answer["status"] == "success", (query, answer)
    return answer["data"]["result"]


def get(address: str, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as response:
        return json.load(response)


def test_at_last_they_stop_by_themselves_and_nothing_is_left(stack):
    """SIGTERM is enough: a container that had to be killed would end with 137. Undeploy then takes everything away."""
    names = [e.container for e in endpoints.read(stack.store)]
    docker(stack.environment, *stack.compose, "stop", "--timeout", str(containers_compose.GRACE_S), *SERVERS)
    codes = {name: docker(stack.environment, "inspect", "--format", "{{.State.ExitCode}}", name).strip() for name in names}
    assert set(codes.values()) <= {"0", "143"}, codes  # 143: java ends by the signal, after its shutdown hooks
    done = run_module("serving.undeploy", *roots(stack.store), env=stack.environment)
    assert (done.code, done.result["stopped"]) == (0, list(SERVERS))
    assert docker(stack.environment, "ps", "--all", "--quiet") == ""
    assert "faceoff" not in docker(stack.environment, "network", "ls", "--format", "{{.Name}}")
    assert not stack.store.endpoints.exists()
    assert containers.take_down(stack.store) == []
