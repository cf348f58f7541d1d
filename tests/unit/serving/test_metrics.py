import pytest

from faceoff.errors import FaceoffError
from serving import metrics
from serving.metrics import ServerMetrics

TORCHSERVE = """\
# TYPE ts_inference_latency_microseconds counter
Requests2XX{Level="Host",Hostname="vm",} 9.0
Requests4XX{Level="Host",Hostname="vm",} 2.0
Requests5XX{Level="Host",Hostname="vm",} 1.0
ts_inference_latency_microseconds{model_name="cnn",model_version="1",hostname="vm",} 10000.0
ts_inference_latency_microseconds{model_name="cnn",model_version="2",hostname="vm",} 7.0
ts_inference_requests_total{model_name="cnn",model_version="1",hostname="vm",} 4.0
ts_inference_requests_total{model_name="lstm",model_version="1",hostname="vm",} 99.0
ts_queue_latency_microseconds{model_name="cnn",model_version="1",hostname="vm",} 2000.0
"""
TFSERVING = """\
# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{model_name="cnn",status="OK"} 8
:tensorflow:serving:request_count{model_name="cnn",status="INVALID_ARGUMENT"} 2
:tensorflow:serving:request_count{model_name="a\\"b\\nc",status="OK"} 5
:tensorflow:serving:runtime_latency_bucket{model_name="cnn",API="Predict",runtime="TF1",le="+Inf"} 4
:tensorflow:serving:runtime_latency_sum{model_name="cnn",API="Predict",runtime="TF1"} 6000
:tensorflow:serving:runtime_latency_count{model_name="cnn",API="Predict",runtime="TF1"} 4
:tensorflow:serving:batching_session:queuing_latency_sum{thread_pool_name=""} 500
:tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name=""} 10
:tensorflow:core:graph_run_time_usecs{} 9000
:tensorflow:core:graph_runs{} 3
not a sample at all
some_gauge NaN
"""


def test_torchserves_page_in_the_common_definition():
    found = metrics.torchserve(metrics.parse(TORCHSERVE), "cnn", 1)
    assert found.to_dict() == {"requests": 4, "errors": 3, "queue_ms": 0.5, "compute_ms": 2.0}


def test_tensorflow_servings_page_in_the_common_definition():
    page = metrics.parse(TFSERVING)
    assert metrics.tfserving(page, "cnn").to_dict() == {"requests": 10, "errors": 2, "queue_ms": 0.05, "compute_ms": 1.5}
    other = metrics.tfserving(page, 'a"b\nc')
    assert (other.requests, other.errors) == (5, 0)
    assert other.compute_ms == 3.0  # the page has no runtime_latency of that model: the graph runs of all


def test_what_a_server_does_not_measure_is_none_and_not_zero():
    empty = metrics.parse("some_gauge 1\n")
    nothing = {"requests": None, "errors": None, "queue_ms": None, "compute_ms": None}
    assert metrics.torchserve(empty, "cnn", 1).to_dict() == nothing
    assert metrics.tfserving(empty, "cnn").to_dict() == nothing
    assert metrics.torchserve(metrics.parse('Requests2XX{Level="Host"} 3\n'), "cnn", 1).errors == 0


def test_two_readings_give_what_happened_between_them():
    first = ServerMetrics(requests=10, errors=0, queue_total_ms=5, num_queued=10)
    second = ServerMetrics(requests=14, errors=1, queue_total_ms=25, num_queued=14)
    between = second.since(first)
    assert between.to_dict() == {"requests": 4, "errors": 1, "queue_ms": 5.0, "compute_ms": None}


def test_a_page_that_is_not_there_is_a_fault_that_names_it():
    with pytest.raises(FaceoffError, match=r"no metrics from http://127.0.0.1:1/metrics"):
        metrics.read("http://127.0.0.1:1/metrics")


def test_requests_that_were_counted_and_not_timed_have_no_times():
    untimed = ServerMetrics(requests=4, queue_total_ms=0.0, num_queued=4, compute_total_ms=0.0, num_computed=4)
    assert (untimed.queue_ms, untimed.compute_ms) == (None, None)
    timed = ServerMetrics(requests=4, queue_total_ms=0.0, num_queued=4, compute_total_ms=2.0, num_computed=4)
    assert (timed.queue_ms, timed.compute_ms) == (0.0, 0.5)
