"""The handler that every archive has, as plain Python: one call for a batch, one answer for each request, whatever the form."""

import importlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import ROOT

SIGNATURE = {
    "inputs": [{"name": name, "dtype": "int32", "shape": [3], "dynamic": [0]} for name in ("ids", "mask")],
    "outputs": [{"name": "sum", "dtype": "float32", "shape": []}, {"name": "count", "dtype": "int32", "shape": []}],
}

REFUSED = 1_000_000  # an id that the model has no row for


class Context:
    """What the handler asks of TorchServe's context."""

    def __init__(self, folder, gpu=None):
        self.system_properties = {"model_dir": str(folder), "gpu_id": gpu}
        self.statuses, self.types = {}, {}

    def set_response_status(self, code, phrase, index):
        self.statuses[index] = code

    def set_response_content_type(self, index, value):
        self.types[index] = value


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A handler of a form of the test's own, initialized; `calls` are the shapes that its model was called with."""
    monkeypatch.syspath_prepend(ROOT / "export" / "handlers")
    batching = importlib.import_module("batching")
    (tmp_path / "servable.json").write_text(json.dumps({"file": "model.bin", "signature": SIGNATURE}))
    calls = []

    class SumHandler(batching.BatchingHandler):
        broken = False

        def load(self, folder, servable, gpu):
            self.loaded = (folder, servable["file"], gpu)

            def model(arrays):
                ids, mask = arrays
                calls.append(ids.shape)
                if self.broken or (ids == REFUSED).any():
                    raise IndexError("the trace\nindex out of range")
                return [(ids * mask).sum(1).astype(np.float32), mask.sum(1, dtype=np.int32)]

            return model

    handler, context = SumHandler(), Context(tmp_path, gpu=1)
    handler.initialize(context)
    yield SimpleNamespace(handler=handler, context=context, calls=calls, folder=tmp_path)
    for name in ("batching", "wire"):
        del sys.modules[name]


def rows(*ids):
    return {"instances": [{"ids": list(row), "mask": [1] * len(row)} for row in ids]}


def test_ready_means_that_the_model_has_answered(served):
    assert served.handler.initialized
    assert served.handler.loaded == (served.folder, "model.bin", 1)
    assert served.calls == [(1, 3)]


def test_requests_of_one_length_are_one_call_and_each_gets_its_rows(served):
    served.calls.clear()
    raw = np.array([[7, 8, 9]], np.int32).tobytes() + np.array([[1, 1, 0]], np.int32).tobytes()
    answers = served.handler.handle([{"body": rows([1, 2, 3], [4, 5, 6])}, {"data": raw}], served.context)
    assert served.calls == [(3, 3)]
    assert json.loads(answers[0]) == {"predictions": [{"sum": 6.0, "count": 3}, {"sum": 15.0, "count": 3}]}
    assert answers[1] == np.float32(15).tobytes() + np.int32(2).tobytes()
    assert (served.context.statuses, served.context.types) == ({}, {0: "application/json"})


def test_requests_of_different_lengths_are_apart_and_keep_their_places(served):
    served.calls.clear()
    data = [{"body": rows([1, 2])}, {"body": rows([1, 2, 3])}, {"body": rows([10, 20])}]
    answers = [json.loads(answer)["predictions"][0]["sum"] for answer in served.handler.handle(data, served.context)]
    assert served.calls == [(2, 2), (1, 3)]
    assert answers == [3.0, 6.0, 30.0]


def test_a_bad_request_gets_its_400_and_its_neighbours_their_answers(served):
    data = [{"body": b"seven b"}, {"body": rows([1, 2, 3])}, {"body": {"instances": [{"ids": [1, 2, 3]}]}}]
    answers = served.handler.handle(data, served.context)
    assert served.context.statuses == {0: 400, 2: 400}
    assert json.loads(answers[1]) == {"predictions": [{"sum": 6.0, "count": 3}]}
    assert "not whole rows" in json.loads(answers[0])["error"]
    assert "['ids', 'mask']" in json.loads(answers[2])["error"]


def test_a_batch_of_bad_requests_does_not_call_the_model(served):
    served.calls.clear()
    answers = served.handler.handle([{"body": b"x"}, {}], served.context)
    assert served.calls == []
    assert all("error" in json.loads(answer) for answer in answers)


def test_values_that_the_model_refuses_get_their_400_and_the_neighbours_their_answers(served):
    served.calls.clear()
    raw = np.array([[1, 1, 1]], np.int32).tobytes() * 2
    data = [{"body": rows([1, 2, 3])}, {"body": rows([4, REFUSED, 6])}, {"body": rows([7, 8])}, {"data": raw}]
    answers = served.handler.handle(data, served.context)
    zeros = (1, 3)
    assert served.calls == [(3, 3), (1, 3), (1, 3), zeros, (1, 3), (1, 2)]
    assert served.context.statuses == {1: 400}
    assert json.loads(answers[1]) == {"error": "the model refuses these values (IndexError: index out of range)"}
    assert [json.loads(answers[i])["predictions"][0]["sum"] for i in (0, 2)] == [6.0, 15.0]
    assert answers[3] == np.float32(3).tobytes() + np.int32(3).tobytes()


def test_a_lone_request_that_the_model_refuses_gets_its_400(served):
    [answer] = served.handler.handle([{"body": rows([REFUSED, 1, 1])}], served.context)
    assert served.context.statuses == {0: 400}
    assert "index out of range" in json.loads(answer)["error"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_model_that_answers_nothing_any_more_is_torchserves_to_tell(served, number):
    served.handler.broken = True
    with pytest.raises(IndexError):
        served.handler.handle([{"body": rows([1, 2, 3])}] * number, served.context)
    assert served.context.statuses == {}
