"""Parity on the wire: a server that swaps the rows of requests it batched is caught."""

import dataclasses

import numpy as np
import pytest

from faceoff import golden
from faceoff.errors import FaceoffError
from faceoff.evaluation import EvaluationSet
from faceoff.golden import Golden
from serving import parity
from serving.client import Client
from tests.fakes import model_servers


@pytest.fixture
def swapped(tmp_path):
    """A fake whose single answers are right, its endpoint and what is expected of it."""
    from faceoff.store import Store

    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    with model_servers.running("swap") as servers:
        endpoint = model_servers.deploy(store, servers)
        yield endpoint, golden.read(store.model_dir("cnn") / "golden", model_servers.SIGNATURE)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_server_that_swaps_rows_is_caught_although_each_single_answer_is_right(swapped, monkeypatch, protocol):
    endpoint, expected = swapped
    monkeypatch.setattr(golden, "BATCH_SIZES", (17,))
    monkeypatch.setattr(parity.protocols, "encodings", lambda *_: [(protocol, parity.protocols.DEFAULT_ENCODING[protocol])])
    with Client(endpoint, model_servers.SIGNATURE, protocol=protocol) as client:
        alone = client.predict(expected.rows(0, 2).inputs).outputs["logits"]
    assert np.allclose(alone, expected.rows(0, 2).outputs["logits"])
    with pytest.raises(FaceoffError, match=r"requests at once answers wrongly: .*; it is the answer to golden row \d+"):
        parity.check([endpoint], model_servers.SIGNATURE, expected)


def test_a_right_server_passes(tmp_path):
    from faceoff.store import Store

    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    with model_servers.running("right") as servers:
        endpoint = model_servers.deploy(store, servers)
        expected = golden.read(store.model_dir("cnn") / "golden", model_servers.SIGNATURE)
        records = parity.check([endpoint], model_servers.SIGNATURE, expected)
    assert {(r["protocol"], r["concurrent"]) for r in records} == {("rest", 1), ("rest", 8), ("grpc", 1), ("grpc", 8)}


def test_the_accuracy_is_of_the_answers_and_a_wrong_row_is_named(tmp_path):
    from faceoff.store import Store

    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    images = np.random.default_rng(7).random((70, 2, 2, 1), dtype=np.float32)
    logits = model_servers.logits(images)
    targets = logits.argmax(1)
    targets[:7] = (targets[:7] + 1) % 3

    def test_set(logits):
        rows = Golden(inputs={"images": images}, outputs={"logits": logits})
        return EvaluationSet(rows=rows, targets=targets, loss="cross_entropy", trained_accuracy=0.9)

    with model_servers.running("right") as servers:
        endpoint = model_servers.deploy(store, servers)
        records = parity.check_test_set([endpoint], model_servers.SIGNATURE, test_set(logits), 0.99)
        assert [(r["protocol"], r["num_rows"], r["accuracy"]) for r in records] == [("rest", 70, 0.9), ("grpc", 70, 0.9)]
        logits[66] += 1
        with pytest.raises(FaceoffError, match="test rows 64 to 69 answers wrongly: largest difference 1 exceeds"):
            parity.check_test_set([endpoint], model_servers.SIGNATURE, test_set(logits), 0.99)
        # The same answers of a lower precision are judged by how many of them are right.
        lower = dataclasses.replace(endpoint, precision="bf16")
        records = parity.check_test_set([lower], model_servers.SIGNATURE, test_set(logits), 0.99)
        assert {(r["precision"], r["accuracy"], r["tolerance"]) for r in records} == {("bf16", 0.9, None)}
        assert all(r["max_abs_difference"] > 0.9 for r in records)
        better = dataclasses.replace(test_set(logits), trained_accuracy=0.92)
        with pytest.raises(FaceoffError, match=r"in bf16 over rest is too often wrong: accuracy 0.9000 on the 70 rows"):
            parity.check_test_set([lower], model_servers.SIGNATURE, better, 0.99)


def test_golden_rows_are_judged_within_the_endpoints_tolerance(tmp_path):
    from faceoff.store import Store

    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    with model_servers.running("right") as servers:
        endpoint = model_servers.deploy(store, servers)
        expected = golden.read(store.model_dir("cnn") / "golden", model_servers.SIGNATURE)
        off = Golden(inputs=expected.inputs, outputs={"logits": expected.outputs["logits"] + np.float32(0.25)})
        with pytest.raises(FaceoffError, match=r"largest difference 0\.25 exceeds the tolerance 0.0001"):
            parity.check([endpoint], model_servers.SIGNATURE, off)
        lower = dataclasses.replace(endpoint, precision="bf16", tolerance=0.3)
        records = parity.check([lower], model_servers.SIGNATURE, off)
        assert {(r["precision"], r["tolerance"]) for r in records} == {("bf16", 0.3)}


def test_the_owner_of_a_swapped_answer_is_named():
    rows = np.arange(6, dtype=np.float32).reshape(6, 1)
    expected = Golden(inputs={"x": rows}, outputs={"y": rows})
    assert parity._owner({"y": rows[4:5]}, expected, 1e-6) == 4
    assert parity._owner({"y": rows[4:5] + 0.5}, expected, 1e-6) is None
