"""experiment.results: from visits to pairs and to the two files, with visits made of a few measurements."""

import itertools
import json

import pytest

from experiment import plan, results
from experiment.floors import parts
from experiment.results import Done
from experiment.visit import Load, Visited
from tests.unit.faceoff.test_endpoints import endpoint

SERVERS = ["torchserve", "tfserving-embedded"]


def measurement(server, scenario, value, *, valid=True):
    search = {"max_qps": 10 * value if valid else None, "bracket": [value, 1.1 * value]}
    return {
        "id": f"{server}-rest-json-{scenario}-1",
        "samples": f"rest/samples/{server}-{scenario}.parquet",
        "model": "cnn",
        "protocol": "rest",
        "encoding": "json",
        "scenario": scenario,
        "load": {"kind": "connections", "value": 16} if scenario == "closed" else {"kind": "rate", "value": 200.0},
        "slo_ms": 50.0,
        "valid": valid,
        "throughput_rps": 2 * value,
        "latency_ms": {"p50": value, "p99": 3 * value, "mean": 1.5 * value},
        "server_use": {"cpu_us_per_request": 100 * value, "rss_bytes": 1000},
        "server_ms": {"queue": 0.2, "compute": 0.6},
        "encode_us": 100.0,
        "decode_us": 50.0,
        "search": search if scenario == "max_qps" else None,
    }


@pytest.fixture
def done(tmp_path):
    """Three repeats; torchserve takes twice as long, and its second default visit's open loop is INVALID."""
    for server in SERVERS:
        folder = tmp_path / results.CAPACITY / server
        folder.mkdir(parents=True)
        by_server = [{"server": server}]
        (folder / "parity.json").write_text(json.dumps({"checks": by_server, "test_sets": by_server, "num_rows": 128}))
    found = []
    for visit in plan.visits(SERVERS, plan.profile("quick"), seed=1):
        folder = tmp_path / "visits" / visit.id
        folder.mkdir(parents=True)
        value = (2.0 if visit.server == "torchserve" else 1.0) * (1 + 0.01 * visit.repeat)
        bad = (visit.server, visit.tuning, visit.repeat) == ("torchserve", "default", 2)
        scenarios = ("closed", "server", "max_qps")
        measured = [measurement(visit.server, s, value, valid=not (bad and s == "server")) for s in scenarios]
        summary = {"measurements": measured, "config": {"scenarios": scenarios}, "calibration": None}
        visited = Visited(folder=folder, endpoint=endpoint(visit.server), facts={}, summary=summary)
        found.append(Done(visit=visit, settings={}, visited=visited))
    return found


def test_each_metric_of_each_pair_is_compared_on_valid_visits(done):
    comparisons, unjudged = results.judge(done, SERVERS, ["rest"])
    found = {(c.metric, c.tuning, c.kind): c for c in comparisons}
    assert unjudged == []
    assert len(found) == len(comparisons) == 5 * (2 + 1)
    p50 = found["p50", "default", "ab"]
    assert (p50.a, p50.b) == tuple(SERVERS)
    assert sorted(p50.a_values) == [2.02, 2.06]
    assert sorted(p50.b_values) == [1.01, 1.02, 1.03]
    itself = found["cpu_us_per_request", "default", "aa"]
    assert itself.a == itself.b == "tfserving-embedded"
    assert sorted(itself.a_values) == sorted(itself.b_values) == pytest.approx([101.0, 102.0, 103.0])


def test_a_comparison_without_valid_visits_is_missed(done):
    for one in done:
        for m in one.visited.measurements:
            if m["scenario"] == "closed" and one.visit.tuning == "best":
                m["valid"] = one.visit.repeat == 1 and one.visit.server == "torchserve"
            if m["scenario"] == "max_qps":
                m["valid"] = False
    comparisons, unjudged = results.judge(done, SERVERS, ["rest"])
    assert {(c.metric, c.tuning) for c in comparisons if c.kind == "ab"} == {
        *(("throughput_rps", "default"), ("p50", "default"), ("p99", "default"), ("cpu_us_per_request", "default")),
        *(("p50", "best"), ("p99", "best"), ("cpu_us_per_request", "best")),
    }
    assert len(unjudged) == 1 + 3  # one throughput; max_qps of both tunings and of the server with itself
    assert [metric for metric, _ in unjudged] == ["throughput_rps", "max_qps", "max_qps", "max_qps"]
    assert all("VALID" in sentence for _, sentence in unjudged)


def test_the_files_of_a_run(done, tmp_path):
    comparisons, _ = results.judge(done, SERVERS, ["rest"])
    record = {"model": "cnn", "profile": "quick", "options": {"seed": 1}, "seed": 1}
    results.write(tmp_path, run="try", done=done, record=record, comparisons=comparisons)
    summary = json.loads((tmp_path / "summary.json").read_text())
    record = json.loads((tmp_path / "compare.json").read_text())
    ids = [m["id"] for m in summary["measurements"]]
    assert len(set(ids)) == len(ids) == 15 * 3
    assert list(itertools.chain.from_iterable(visit["measurements"] for visit in record["visits"])) == ids
    first = summary["measurements"][0]
    assert first["samples"].startswith(f"visits/{first['visit']}/rest/samples/")
    assert {(m["tuning"], m["repeat"], m["role"]) for m in summary["measurements"] if m["role"] == "aa"} == {
        ("default", 1, "aa"),
        ("default", 2, "aa"),
        ("default", 3, "aa"),
    }
    (p99,) = [c for c in summary["comparisons"] if (c["metric"], c["tuning"], c["kind"]) == ("p99", "best", "ab")]
    assert p99["ratio"] == pytest.approx(2.0)
    parity = json.loads((tmp_path / "records" / "parity.json").read_text())
    for key in ("checks", "test_sets"):
        assert sorted(check["server"] for check in parity[key]) == sorted(SERVERS), key
    assert {e["server"] for e in json.loads((tmp_path / "records" / "endpoints.json").read_text())} == set(SERVERS)


def test_the_parts_of_the_mean_are_what_was_measured_and_the_rest_is_said():
    found = parts([measurement("torchserve", "server", 2.0)], 0.3)
    assert found["mean_ms"] == pytest.approx(3.15)
    known = {"encode": 0.1, "decode": 0.05, "network": 0.3, "queue": 0.2, "compute": 0.6}
    assert {name: found["parts_ms"][name] for name in known} == pytest.approx(known)
    assert found["parts_ms"]["batch_wait"] is None
    assert found["parts_ms"]["unattributed"] == pytest.approx(3.15 - 1.25)
    assert found["flagged"]


def test_parts_that_explain_the_mean_are_not_flagged():
    explained = {**measurement("torchserve", "server", 2.0), "server_ms": {"queue": 0.3, "compute": 2.3}}
    assert not parts([explained], 0.3)["flagged"]


def test_a_part_that_one_visit_could_not_measure_is_not_made_up():
    found = parts(
        [measurement("a", "server", 2.0), {**measurement("a", "server", 2.0), "server_ms": dict.fromkeys(("queue", "compute"))}],
        None,
    )
    assert found["parts_ms"]["queue"] is None and found["parts_ms"]["network"] is None


def test_the_options_of_a_load():
    assert "--rate" not in Load(profile="quick", scenarios="closed", seed=1, rest_s=6).options()
    text = " ".join(Load(profile="quick", scenarios="closed,server", seed=3, rate=123.4567, probes=5, rest_s=6).options())
    assert text == "--profile quick --scenarios closed,server --seed 3 --rest 6 --probes 5 --rate 123.457"
    wide = Load(profile="quick", scenarios="sweep", seed=3, rest_s=6, rates=(100.0, 250.5), encodings=("json", "raw"))
    assert " ".join(wide.options()).endswith("--rates 100,250.5 --encodings json,raw")
