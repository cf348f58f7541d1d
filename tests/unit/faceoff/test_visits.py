"""faceoff.visits: which figures of which visits are compared with which."""

from __future__ import annotations

from typing import Any

import pytest

from faceoff import visits

SERVERS = ("torchserve", "tfserving-embedded")


def measurement(name: str, scenario: str, **more: Any) -> dict[str, Any]:
    load = {"kind": "connections", "value": 4} if scenario == "closed" else {"kind": "rate", "value": 200.0}
    given = {
        "id": name,
        "model": "cnn",
        "protocol": "rest",
        "encoding": "json",
        "num_rows_per_request": 1,
        "scenario": scenario,
        "load": load,
        "slo_ms": 100.0,
        "valid": True,
        "throughput_rps": 400.0,
        "latency_ms": {"p50": 3.0, "p99": 9.0},
        "server_use": {"cpu_us_per_request": 1500.0},
        "search": None,
    }
    return {**given, **more}


def visit(order: int, server: str, *names: str, role: str = "ab", tuning: str = "default") -> dict[str, Any]:
    return {"order": order, "server": server, "tuning": tuning, "role": role, "measurements": list(names)}


def test_each_scenario_gives_the_figures_it_is_there_for() -> None:
    search = {"max_qps": 320.0, "bracket": [320.0, 352.0]}
    summary = {
        "measurements": [measurement("c", "closed"), measurement("s", "server"), measurement("m", "max_qps", search=search)]
    }
    found = visits.values(summary, {"visits": [visit(1, "torchserve", "c", "s", "m")]})
    told = {value.cell.metric: (value.value, value.cell.at, value.resolution) for value in found}
    assert told == {
        "throughput_rps": (400.0, "4 connections", 0.0),
        "p50": (3.0, "200 requests/s", 0.0),
        "p99": (9.0, "200 requests/s", 0.0),
        "cpu_us_per_request": (1500.0, "200 requests/s", 0.0),
        "max_qps": (320.0, "SLO 100 ms", pytest.approx(0.1)),  # the confirmed rate, to the lowest that failed
    }


def test_what_is_invalid_or_was_not_found_has_no_value() -> None:
    nothing = {"max_qps": None, "bracket": [None, None]}
    summary = {
        "measurements": [
            measurement("c", "closed", valid=False),
            measurement("m", "max_qps", search=nothing),
            measurement("s", "server", latency_ms={"p50": None, "p99": None}, server_use={"cpu_us_per_request": None}),
        ]
    }
    assert visits.values(summary, {"visits": [visit(1, "torchserve", "c", "m", "s")]}) == []


def test_servers_meet_under_one_tuning_and_the_aa_visits_only_their_own() -> None:
    a, b = SERVERS
    names = [f"{n}" for n in range(8)]
    summary = {"measurements": [measurement(name, "closed", throughput_rps=100.0 + int(name)) for name in names]}
    order = [
        visit(3, a, "2"),
        visit(1, a, "0"),
        visit(2, b, "1"),
        visit(4, b, "3"),
        visit(5, b, "4", role="aa"),
        visit(6, b, "5", role="aa"),
        visit(7, a, "6", tuning="best"),
        visit(8, b, "7", tuning="best"),
    ]
    pairs = visits.pairs(visits.values(summary, {"visits": order}), SERVERS)
    told = [(pair.kind, pair.tuning, pair.a, pair.b, pair.a_values, pair.b_values) for pair in pairs]
    assert told == [
        ("ab", "default", a, b, (100.0, 102.0), (101.0, 103.0)),
        ("aa", "default", b, b, (101.0, 103.0), (104.0, 105.0)),
        ("ab", "best", a, b, (106.0,), (107.0,)),
    ]


def test_another_rate_another_encoding_another_question() -> None:
    summary = {
        "measurements": [
            measurement("1", "server"),
            measurement("2", "server", load={"kind": "rate", "value": 250.0}),
            measurement("3", "server", encoding="raw"),
            measurement("4", "server", num_rows_per_request=8),
        ]
    }
    a, b = SERVERS
    record = {"visits": [visit(1, a, "1"), visit(2, b, "2"), visit(3, b, "3"), visit(4, b, "4")]}
    pairs = visits.pairs(visits.values(summary, record), SERVERS)
    assert pairs and all(not (pair.a_values and pair.b_values) for pair in pairs)
    assert "json, 8 rows" in {pair.encoding for pair in pairs}
