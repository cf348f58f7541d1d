"""serving.bench, whole: in process, then the embedded server and the (right) real one beside it."""

import pytest

from tests.conftest import roots
from tests.fakes import tensorflow_model_server

pytestmark = pytest.mark.slow


def test_the_bench_shows_every_shape_of_both_servers_and_the_ratios_it_promises(exported, run, tmp_path):
    env = {"TENSORFLOW_MODEL_SERVER": str(tensorflow_model_server.install(tmp_path, "right"))}
    done = run("serving.bench", "--seconds", "0.2", "--transports", "core,aio", "--rounds", "2", *roots(exported), env=env)
    assert done.code == 0, done.stderr[-3000:]
    assert done.result["in_process_rows_per_s"] > 0
    rows = {
        (row["server"], row["transport"], row["request"], row["rows"], row["in_flight"]): row for row in done.result["measured"]
    }
    for server in (("tfserving-embedded", "core"), ("tfserving-embedded", "aio"), ("tfserving", "")):
        for request in ("grpc", "rest"):
            wanted = set() if (server[1], request) == ("aio", "rest") else {(1, 1), (1, 8), (1, 32), (32, 1)}
            assert {key[3:] for key in rows if key[:3] == (*server, request)} == wanted
            assert all(rows[*server, request, *shape]["over_in_process"] > 0 for shape in wanted if shape[0] > 1)
        for in_flight in (1, 8, 32):
            row, empty = rows[*server, "grpc", 1, in_flight], rows[*server, "empty", 1, in_flight]
            assert row["over_empty"] == pytest.approx(row["requests_per_s"] / empty["requests_per_s"])
    for (server, transport, *shape), row in rows.items():
        if (server, transport) == ("tfserving-embedded", "core") and shape[0] != "rest":
            reference = rows[server, "aio", *shape]
            assert row["rate_over_aio"] == pytest.approx(row["requests_per_s"] / reference["requests_per_s"])
            assert row["aio_cpu_over"] == pytest.approx(reference["cpu_us"] / row["cpu_us"])
        else:
            assert (row["rate_over_aio"], row["aio_cpu_over"]) == (None, None)
    assert all(row["requests_per_s"] > 0 and row["p50_us"] > 0 and row["cpu_us"] >= 0 for row in rows.values())
