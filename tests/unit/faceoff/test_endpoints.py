import json

import pytest

from faceoff import endpoints
from faceoff.endpoints import Endpoint
from faceoff.errors import CorruptError, MissingStageError, UsageError
from faceoff.store import Store


def endpoint(server: str) -> Endpoint:
    return Endpoint(
        server=server,
        model="cnn",
        version=1,
        rest_url="http://127.0.0.1:1",
        grpc_target="127.0.0.1:2",
        metrics_url=None,
        device="cpu",
        settings={},
        artifact_format="savedmodel",
        precision="float32",
        tolerance=1e-4,
        implementation="x",
        export_sha256="0",
    )


@pytest.fixture
def store(tmp_path):
    store = Store(artifacts=tmp_path)
    endpoints.write(store.endpoints, [endpoint("torchserve"), endpoint("tfserving-embedded")])
    return store


def test_tfserving_stands_for_the_embedded_server_where_that_is_deployed(store):
    assert [e.server for e in endpoints.read(store, servers=["tfserving"])] == ["tfserving-embedded"]


def test_the_order_is_the_users(store):
    found = endpoints.read(store, model="cnn", servers=["tfserving-embedded", "torchserve"])
    assert [e.server for e in found] == ["tfserving-embedded", "torchserve"]


def test_a_server_under_two_names_is_one(store):
    assert [e.server for e in endpoints.read(store, servers=["tfserving", "tfserving-embedded"])] == ["tfserving-embedded"]


def test_nothing_deployed_names_the_command(tmp_path):
    with pytest.raises(MissingStageError, match="run: make deploy MODEL=cnn"):
        endpoints.read(Store(artifacts=tmp_path), model="cnn")


def test_another_model_or_server_is_a_mistake(store):
    with pytest.raises(MissingStageError, match="no endpoint of model 'lstm'"):
        endpoints.read(store, model="lstm")
    with pytest.raises(UsageError, match="unknown deployed server 'triton'"):
        endpoints.read(store, servers=["triton"])


def test_an_unreadable_file_is_corrupt(store):
    store.endpoints.write_text('[{"server": "x"}]')
    with pytest.raises(CorruptError):
        endpoints.read(store)


def test_tfserving_is_the_real_one_where_both_are_deployed(store):
    endpoints.write(store.endpoints, [endpoint("tfserving-embedded"), endpoint("tfserving")])
    assert [e.server for e in endpoints.read(store, servers=["tfserving"])] == ["tfserving"]
    assert [e.server for e in endpoints.read(store, servers=["tfserving-embedded"])] == ["tfserving-embedded"]


def test_a_file_of_an_earlier_version_that_says_no_precision_is_refused(store):
    items = json.loads(store.endpoints.read_text())
    store.endpoints.write_text(json.dumps([{k: v for k, v in item.items() if k != "precision"} for item in items]))
    with pytest.raises(CorruptError, match=r"precision.*run again: make deploy"):
        endpoints.read(store)
