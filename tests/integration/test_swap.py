"""The whole of it at once: two servers, three models, two versions; swapped for a newer version; undeployed."""

import os
import shutil

import psutil
import pytest
import urllib3

from faceoff import endpoints, golden, servables
from faceoff.store import Store
from serving import running, state
from serving.client import Client
from serving.protocols import PROTOCOLS, codec
from serving.servers import server_class
from tests.conftest import roots
from tests.fakes.versions import add_version

MODELS = ("cnn", "identity", "mlp")
SERVERS = ("torchserve", "tfserving-embedded")

pytestmark = pytest.mark.slow


@pytest.fixture
def three_models(exported, run, tmp_path):
    """A store with three models in versions 1 to 3; whatever is deployed from it is stopped at the end."""
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    shutil.copytree(exported.model_dir("cnn"), store.model_dir("cnn"))
    for model in MODELS:
        for module in ("training.train", "export.export", "export.verify"):
            if model != "cnn":
                done = run(module, "--model", model, *roots(store))
                assert done.code == 0, done.stderr[-3000:]
        for version in (2, 3):
            add_version(store, model, version)
    yield store
    state.stop_all(store)


def answers(store: Store) -> set[tuple[str, str, int]]:
    """Ask every endpoint over every protocol and check the answers; what was asked."""
    found = endpoints.read(store)
    trained = {model: servables.read_trained(store, model) for model in MODELS}
    for number, endpoint in enumerate(found):
        about = trained[endpoint.model]
        rows = about.golden.rows(number, 3)
        for protocol in PROTOCOLS:
            with Client(endpoint, about.signature, protocol=protocol) as client:
                outputs = client.predict(rows.inputs).outputs
                assert golden.compare(outputs, rows.outputs, 1e-4).problem is None, (endpoint, protocol)
    return {(endpoint.server, endpoint.model, endpoint.version) for endpoint in found}


def test_three_models_in_two_versions_on_two_servers_are_swapped_and_undeployed(three_models, run):
    store = three_models
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))  # all: nothing is measured
    options = ("--model", ",".join(MODELS), "--servers", ",".join(SERVERS), "--cores", cores, "--share-generator")
    options += ("--ports", "free", *roots(store))
    expected = {(server, model) for server in SERVERS for model in MODELS}

    done = run("serving.deploy", "--version", "1,2", *options, timeout_s=900)
    assert done.code == 0, done.stderr[-3000:]
    assert answers(store) == {(*pair, version) for pair in expected for version in (1, 2)}
    first = state.read(store)
    old = [endpoint for endpoint in endpoints.read(store) if endpoint.version == 1]

    done = run("serving.deploy", "--version", "2,3", *options, timeout_s=900)
    assert done.code == 0, done.stderr[-3000:]
    assert not any(process.alive() for process in first)
    assert answers(store) == {(*pair, version) for pair in expected for version in (2, 3)}
    now = {(endpoint.server, endpoint.model): endpoint for endpoint in endpoints.read(store)}
    for gone in old:
        endpoint = now[gone.server, gone.model]
        route = codec(gone, servables.read_trained(store, gone.model).signature, "rest").route
        url = f"{endpoint.rest_url}{route.path}"
        answer = urllib3.request("POST", url, body=b'{"instances": []}', retries=False, timeout=20.0)
        assert answer.status == 404, (url, answer.data)
    for server in run("serving.status", *roots(store)).result["servers"]:
        assert (server["ready"], len(server["models"])) == (True, 6), server
        assert [m["running"]["compute"]["instances"] for m in server["models"]] == [1] * 6

    pids = {pid for endpoint in now.values() for pid in server_class(endpoint.server).running(endpoint).pids}
    assert len(pids) >= 2 + 6  # a worker of TorchServe for each model version, beside the two servers
    assert run("serving.undeploy", *roots(store)).result["stopped"] == list(SERVERS)
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=60)
    assert running.usage(pids) == (0.0, 0)
    assert not store.endpoints.exists()
