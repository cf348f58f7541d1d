"""A stop under load: the embedded server answers all that it has accepted, what waits in TorchServe is counted and said."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from faceoff import endpoints, golden, servables
from faceoff.endpoints import Endpoint
from faceoff.servables import Trained
from faceoff.store import Store
from serving import state, undeploy
from serving.client import Client, RequestError
from serving.servers import server_class
from tests.conftest import roots, run_module

NUM_REST, NUM_GRPC = 8, 2
NUM_ROWS = 512  # so many that the embedded server is at work when the signal comes
DEADLINE_S = 30


@pytest.fixture
def store(exported: Store, tmp_path):
    """Both servers, on a store of their own."""
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    store.artifacts.mkdir()
    (store.artifacts / "cnn").symlink_to(exported.artifacts.resolve() / "cnn")
    try:
        done = run_module("serving.deploy", "--ports", "free", "--servers", "torchserve,tfserving-embedded", *roots(store))
        assert done.code == 0, done.stderr[-3000:]
        yield store
    finally:
        state.stop_all(store)


@pytest.fixture
def clients():
    with ThreadPoolExecutor(2 * NUM_REST + NUM_GRPC) as pool:
        yield pool


def until_it_fails(endpoint: Endpoint, trained: Trained) -> str:
    """One request after the other over one REST connection: was the last refused, or lost after it had been sent?"""
    with Client(endpoint, trained.signature, protocol="rest", timeout_s=DEADLINE_S) as client:
        while True:
            try:
                client.predict(trained.golden.rows(0, 8).inputs)
            except RequestError as error:
                assert "within" not in str(error), error  # cut, not waited for in vain
                return "refused" if "Failed to establish" in str(error) else "lost"


def once(endpoint: Endpoint, trained: Trained, protocol: str, at_once: threading.Barrier) -> str:
    """One request, at the same moment as all others."""
    rows = trained.golden.rows(0, NUM_ROWS)
    with Client(endpoint, trained.signature, protocol=protocol, timeout_s=DEADLINE_S) as client:
        at_once.wait(DEADLINE_S)
        answer = client.predict(rows.inputs)
    return "answered" if golden.compare(answer.outputs, rows.outputs, 1e-4).problem is None else "wrong"


def has_read(endpoint: Endpoint, num_connections: int) -> bool:
    """Whether the server has taken so many connections and, by the kernel, read all that was sent over them."""
    ports = {int(endpoint.grpc_target.rpartition(":")[2]), urlsplit(endpoint.rest_url).port}
    taken = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, connected, queues, inode = itemgetter(1, 3, 4, 9)(line.split())
        if int(local.rpartition(":")[2], 16) in ports and connected == "01":
            taken += inode != "0" and queues.endswith(":00000000")
    return taken >= num_connections


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_undeploy_loses_nothing_of_the_embedded_server_and_says_what_waited_in_torchserve(store, clients, capsys):
    trained = servables.read_trained(store, "cnn")
    torchserve, embedded = (
        next(e for e in endpoints.read(store) if e.server == server) for server in ("torchserve", "tfserving-embedded")
    )
    busy = [clients.submit(until_it_fails, torchserve, trained) for _ in range(NUM_REST)]
    until(lambda: (server_class("torchserve").waiting(torchserve) or 0) >= 3)
    at_once = threading.Barrier(NUM_REST + NUM_GRPC)
    protocols = ["rest"] * NUM_REST + ["grpc"] * NUM_GRPC
    sent: list[Future] = [clients.submit(once, embedded, trained, protocol, at_once) for protocol in protocols]
    until(lambda: has_read(embedded, len(sent)) or all(future.done() for future in sent))
    assert undeploy.main([*roots(store)]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out.splitlines()[-1])
    assert told["stopped"] == ["torchserve", "tfserving-embedded"]
    assert told["waiting"]["tfserving-embedded"] == 0
    assert 1 <= told["waiting"]["torchserve"] <= NUM_REST
    assert f"torchserve had {told['waiting']['torchserve']} requests waiting when it was stopped" in said.err
    assert [future.result(DEADLINE_S) for future in sent] == ["answered"] * len(sent)
    ends = Counter(future.result(DEADLINE_S) for future in busy)
    assert ends["lost"] >= 1
    assert set(ends) <= {"lost", "refused"}


def test_what_waits_in_servers_that_have_gone_is_not_known(deployed, tmp_path):
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    assert undeploy.waiting(store) == {}
    gone = [e for e in json.loads(deployed.endpoints.read_text()) if e["server"] == "torchserve"]
    gone[0]["management_url"] = "http://127.0.0.1:9"
    store.artifacts.mkdir()
    store.endpoints.write_text(json.dumps(gone))
    assert undeploy.waiting(store) == {"torchserve": None}
