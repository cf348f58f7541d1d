"""experiment.facts: what can be read without a model server; real ones are in tests/integration/test_compare.py."""

import dataclasses
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiment import facts, fairness
from faceoff import manifest
from faceoff.errors import FaceoffError
from faceoff.signature import Signature, TensorSpec
from tests.unit.faceoff.test_endpoints import endpoint


class Answers(BaseHTTPRequestHandler):
    """Answers every POST; `closes` says whether after an answer the connection is over."""

    closes = False

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"predictions": [[0]]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.closes

    def log_message(self, *args):
        """Nobody reads it."""


def probed(**attributes):
    handler = type("Handler", (Answers,), attributes)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            return facts.kept_alive(dataclasses.replace(endpoint("torchserve"), rest_url=url), trained())
        finally:
            server.shutdown()
            thread.join()


def trained():
    spec = TensorSpec(name="image", dtype="float32", shape=(2,))
    rows = SimpleNamespace(inputs={"image": np.zeros((1, 2), np.float32)})
    return SimpleNamespace(signature=Signature(inputs=(spec,), outputs=(spec,)), golden=SimpleNamespace(rows=lambda *_: rows))


def test_a_server_that_keeps_connections():
    assert probed(protocol_version="HTTP/1.1") is True


@pytest.mark.parametrize("how", [{"protocol_version": "HTTP/1.0"}, {"protocol_version": "HTTP/1.1", "closes": True}])
def test_a_server_that_closes_each_connection_is_caught(how):
    assert probed(**how) is not True


def test_a_server_that_is_gone_is_unknown():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        url = f"http://127.0.0.1:{server.server_port}"
    assert facts.kept_alive(dataclasses.replace(endpoint("torchserve"), rest_url=url), trained()) is None


def test_the_sizes_of_what_was_sent(tmp_path):
    for name, sizes in (("a", [700, 500, 600]), ("b", [800])):
        pq.write_table(pa.table({"bytes_out": sizes}), tmp_path / f"{name}.parquet")
    measurements = [{"protocol": "rest", "samples": f"{name}.parquet", "num_requests": 3} for name in "ab"]
    assert facts._sizes(tmp_path, measurements, "rest") == [500, 800]
    assert facts._sizes(tmp_path, measurements, "grpc") is None


def test_the_machine_is_the_same_a_moment_later():
    assert facts.machine() == facts.machine()


def test_rest_is_told_from_work_by_the_kernels_ticks(monkeypatch):
    busy = iter([(0, 0), (9, 10), (9, 10), (9, 30)])
    monkeypatch.setattr(facts, "_ticks", lambda: next(busy))
    monkeypatch.setattr(facts, "REST_SAMPLE_S", 0.0)
    assert facts.at_rest() == "at rest"


def test_a_machine_that_never_rests_is_busy(monkeypatch):
    ticks = iter(range(10**9))
    monkeypatch.setattr(facts, "_ticks", lambda: ((value := next(ticks)), value))
    monkeypatch.setattr(facts, "REST_SAMPLE_S", 0.001)
    assert facts.at_rest(deadline_s=0.01) == "busy"


@pytest.mark.parametrize(("load_keeps", "fact"), [(True, True), (False, False)])
def test_a_load_that_opens_a_connection_for_each_request_is_caught(tmp_path, monkeypatch, load_keeps, fact):
    monkeypatch.setattr(facts, "_running", lambda endpoint: {})
    monkeypatch.setattr(facts, "kept_alive", lambda endpoint, trained: True)
    m = {"protocol": "rest", "encoding": "json", "scenario": "closed", "num_rows_per_request": 1, "connections": 4}
    m |= {"load": {"kind": "connections", "value": 4.0}}
    m |= {"num_requests": 0, "answers_judged": True, "num_wrong": 0, "cores": {"generator": [1]}, "keep_alive": load_keeps}
    assert facts.of(endpoint("torchserve"), trained(), [m], tmp_path)["keep_alive"] is fact


def test_a_visit_without_a_search_has_the_same_connections(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_running", lambda endpoint: {})
    monkeypatch.setattr(facts, "kept_alive", lambda endpoint, trained: True)

    def measured(scenario, kind, connections):
        m = {"protocol": "rest", "encoding": "json", "scenario": scenario, "num_rows_per_request": 1, "connections": connections}
        m |= {"load": {"kind": kind, "value": 4.0}, "keep_alive": True}
        return m | {"num_requests": 0, "answers_judged": True, "num_wrong": 0, "cores": {"generator": [1]}}

    def connections(*found):
        return facts.of(endpoint("torchserve"), trained(), list(found), tmp_path)["connections"]

    both = [measured("closed", "connections", 16), measured("server", "rate", 256)]
    assert (
        connections(*both, measured("max_qps", "rate", 256))
        == connections(*both)
        == ["rest closed loop: 16", "rest open loop: 256"]
    )
    assert connections(*both, measured("max_qps", "rate", 512)) != connections(*both)


def test_a_server_that_cannot_be_read_has_unknown_facts_and_is_no_fault(monkeypatch):
    def gone(endpoint):
        raise FaceoffError("process 1 has ended")

    monkeypatch.setattr(facts, "server_class", lambda name: SimpleNamespace(running=gone))
    found = facts._running(endpoint("torchserve"))
    assert set(found.values()) == {None}
    assert set(found) < set(fairness.rules())


def test_the_precision_is_that_of_the_file_the_server_has_loaded(tmp_path):
    """Whatever the endpoint says; that is asked where the server does not tell what it loaded."""
    rows = [{"file": "cnn-bf16.mar", "precision": "bf16"}, {"file": "cnn.mar", "precision": "float32"}]
    manifest.write(tmp_path, stage="export", model="cnn", metrics={"artifacts": rows})
    said = endpoint("torchserve")
    assert said.precision == "float32"
    lowered = dataclasses.replace(said, precision="bf16")
    assert facts.precision(str(tmp_path / "cnn-bf16.mar"), {}, said) == {"served": "bf16", "lowered_by": {}}
    assert facts.precision(str(tmp_path / "cnn.mar"), {}, lowered) == {"served": "float32", "lowered_by": {}}
    by = {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}
    assert facts.precision(None, {**by, "OMP_NUM_THREADS": "1"}, lowered) == {"served": "bf16", "lowered_by": by}
    assert facts.precision(str(tmp_path / "other.mar"), {}, dataclasses.replace(said, precision="")) is None
