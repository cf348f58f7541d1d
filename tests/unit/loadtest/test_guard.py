"""loadtest.guard."""

from typing import Any

import pytest

from loadtest.guard import MeasurementFacts, WindowFacts, invalid_reasons, others_flags, window_flags

QUIET: dict[str, Any] = {
    "scenario": "server",
    "late_p99_ms": 0.1,
    "p50_ms": 2.0,
    "slo_ms": 100.0,
    "cpu_percent": 20.0,
    "run_queue_percent": 0.5,
    "steal_percent": 0.0,
}
GOOD: dict[str, Any] = {
    "num_requests": 1500,
    "num_expected": 1500,
    "num_errors": 0,
    "num_wrong": 0,
    "num_waiting": 0,
    "first_wrong": None,
    "flags": {},
    "shared_cores": False,
}


def flags(**changes: Any) -> list[str]:
    return window_flags(WindowFacts(**{**QUIET, **changes}))


def reasons(**changes: Any) -> list[str]:
    return invalid_reasons(MeasurementFacts(**{**GOOD, **changes}))


def test_a_quiet_window_stands() -> None:
    assert flags() == []
    assert flags(late_p99_ms=0.5, cpu_percent=70.0, run_queue_percent=5.0, steal_percent=2.0) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"late_p99_ms": 0.51}, "the generator sent 0.51 ms late at p99, limit 0.50 ms"),
        ({"late_p99_ms": 0.6, "scenario": "closed"}, "the generator's event loop ran 0.60 ms late at p99, limit 0.50 ms"),
        ({"cpu_percent": 71}, "the generator used 71% of its core, limit 70%"),
        ({"run_queue_percent": 5.1}, "the generator waited for its core 5.1% of the time, limit 5%"),
        ({"steal_percent": 2.1}, "the hypervisor took 2.1% of the cores' time, limit 2%"),
    ],
)
def test_each_rule_flags_alone(changes: dict[str, Any], words: str) -> None:
    assert flags(**changes) == [words]


def test_other_programs_on_the_servers_cores_flag() -> None:
    assert others_flags(None) == others_flags(5.0) == []
    assert others_flags(10.6) == ["other programs used 11% of the servers' cores, limit 5%"]


def test_a_figure_that_is_not_a_number_flags() -> None:
    assert len(flags(late_p99_ms=float("nan"))) == 1


def test_lateness_may_grow_with_what_is_measured() -> None:
    assert flags(late_p99_ms=1.0, p50_ms=20.0) == []
    assert flags(late_p99_ms=1.0, p50_ms=20.0, slo_ms=10.0) != []
    assert flags(late_p99_ms=0.4, p50_ms=None, slo_ms=None) == []


def test_a_good_measurement_is_valid() -> None:
    assert reasons() == []
    assert reasons(num_errors=1, num_waiting=15) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_wrong": 1, "first_wrong": "golden row 3: off"}, "1 of 1500 answers were wrong (first: golden row 3: off)"),
        ({"num_errors": 2}, "2 of 1500 requests failed, limit 1 (0.1%)"),
        ({"num_requests": 1499}, "only 1499 requests were measured, expected 1500"),
        ({"num_waiting": 16}, "connections: 16 of 1500 requests waited for a free connection, limit 15 (1%)"),
        ({"flags": {2: ["too late", "too busy"]}}, "window 2 stayed flagged through its repeats: too late; too busy"),
        ({"aborted": "it ended"}, "it ended"),
        ({"intruders": ("torchserve (pid 7)",)}, "cores: torchserve (pid 7) may run on the generator's core"),
    ],
)
def test_each_reason_alone(changes: dict[str, Any], words: str) -> None:
    assert reasons(**changes) == [words]


def test_one_core_is_never_valid() -> None:
    assert "share the only core" in reasons(shared_cores=True)[0]


def test_no_rows_is_not_valid() -> None:
    assert reasons(num_requests=0) == ["only 0 requests were measured, expected 1500"]
