"""experiment.fairness: every kind of unfairness, planted one at a time."""

import pytest

from experiment import fairness

FAIR = {
    "cores": [0],
    "generator_cores": [1],
    "threads": 1,
    "instances": 1,
    "batching": {"largest": 1, "delay_ms": 0.0},
    "device": "cpu",
    "precision": {"served": "float32", "lowered_by": {}},
    "tf32": {},
    "input_bytes": {"rest": [500, 700]},
    "message_bytes": {"grpc": [300, 300]},
    "encoding": ["grpc tensor, 1 row", "rest json, 1 row"],
    "preprocessing": {"where": "client", "inputs": [{"name": "image", "dtype": "float32", "shape": [8, 8, 1]}]},
    "connections": ["rest closed: 16"],
    "keep_alive": True,
    "warm_up": 2000,
    "allocator": "libc",
    "machine": {"governors": ["performance"], "transparent_huge_pages": "madvise"},
    "other_load": "at rest",
}
UNFAIR = {
    "cores": [0, 1],
    "generator_cores": [0],
    "threads": 4,
    "instances": 2,
    "batching": {"largest": 32, "delay_ms": 1.0},
    "device": "cuda",
    "precision": {"served": "float32", "lowered_by": {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}},
    "tf32": {"NVIDIA_TF32_OVERRIDE": "1"},
    "input_bytes": {"rest": [250, 260]},
    "message_bytes": {"grpc": [150, 150]},
    "encoding": ["grpc tensor, 1 row", "rest raw, 1 row"],
    "preprocessing": {"where": "server", "inputs": []},
    "connections": ["rest closed: 64"],
    "keep_alive": False,
    "warm_up": 0,
    "allocator": "jemalloc",
    "machine": {"governors": ["powersave"], "transparent_huge_pages": "madvise"},
    "other_load": "busy",
}
DECLARED = {"threads", "instances", "batching", "allocator"}


def check(a, b, tuning="default"):
    return fairness.check(tuning, ("torchserve", a), ("tfserving", b))


def test_the_facts_of_the_tests_are_those_of_the_preset():
    assert set(fairness.rules()) == set(FAIR) == set(UNFAIR)


def test_equal_circumstances_are_fair():
    found = check([FAIR, FAIR], [FAIR, FAIR])
    assert {finding.verdict for finding in found} == {"equal"}
    assert fairness.reasons(found) == []


@pytest.mark.parametrize("name", UNFAIR)
@pytest.mark.parametrize("tuning", ["default", "best"])
def test_a_planted_difference_is_caught_or_declared(name, tuning):
    found = {f.name: f for f in check([FAIR, FAIR], [{**FAIR, name: UNFAIR[name]}] * 2, tuning)}
    finding = found.pop(name)
    assert {f.verdict for f in found.values()} == {"equal"}
    assert finding.a == FAIR[name] and finding.b == UNFAIR[name]
    if name in DECLARED or name == "message_bytes":
        assert finding.verdict == "declared" and finding.declared_because
        assert fairness.reasons([finding]) == []
    else:
        assert finding.verdict == "differs"
        (reason,) = fairness.reasons([finding])
        assert name in reason and "torchserve" in reason and finding.reason in reason


@pytest.mark.parametrize("name", UNFAIR)
def test_a_comparison_that_studies_nothing_catches_every_kind(name):
    found = fairness.check("studies nothing", ("a", [FAIR]), ("b", [{**FAIR, name: UNFAIR[name]}]))
    expected = "declared" if name == "message_bytes" else "differs"
    assert [f.verdict for f in found if f.name == name] == [expected]


@pytest.mark.parametrize("name", FAIR)
def test_what_cannot_be_read_is_unknown_and_makes_the_run_invalid(name):
    found = check([FAIR], [{**FAIR, name: None}])
    assert [f.verdict for f in found if f.name == name] == ["unknown"]
    assert len(fairness.reasons(found)) == 1


def test_a_side_that_changed_between_its_visits_differs_whatever_is_declared():
    found = check([FAIR, {**FAIR, "threads": 4}], [FAIR, FAIR])
    (finding,) = [f for f in found if f.name == "threads"]
    assert finding.verdict == "differs"
    assert finding.a == {"visits": [1, 4]}


def test_a_machine_that_was_busy_for_both_is_not_fair():
    busy = {**FAIR, "other_load": "busy"}
    (finding,) = [f for f in check([busy, busy], [busy]) if f.verdict != "equal"]
    assert (finding.name, finding.verdict) == ("other_load", "differs")
    (reason,) = fairness.reasons([finding])
    assert "busy at torchserve, busy at tfserving, expected at rest" in reason


def test_no_visits_are_unknown():
    assert {finding.verdict for finding in check([], [FAIR])} == {"unknown"}


@pytest.mark.parametrize("tuning", ["default", "best"])
def test_float32_against_a_lower_precision_that_is_served_is_unfair(tuning):
    lowered = {**FAIR, "precision": {"served": "bf16", "lowered_by": {}}}
    (reason,) = fairness.reasons(check([FAIR, FAIR], [lowered, lowered], tuning))
    assert "precision differs" in reason and "float32" in reason and "bf16" in reason
    assert fairness.reasons(check([lowered, lowered], [lowered, lowered], tuning)) == []


def test_a_precision_that_nobody_knows_is_no_equality():
    nobody = {**FAIR, "precision": None}
    assert [f.verdict for f in check([nobody], [nobody]) if f.name == "precision"] == ["unknown"]
