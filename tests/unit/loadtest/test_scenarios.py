"""loadtest.scenarios and the schedules of those that are not Poisson."""

import numpy as np
import pytest

from loadtest import schedules
from loadtest.scenarios import BY_NAME, NAMES, load_kind

COMMON = {"seed": 3, "window": 0, "num_requests": 10_000, "num_payloads": 8}


def offsets_s(scenario: str, rate: float = 100.0) -> np.ndarray:
    found = schedules.make(scenario=scenario, rate=rate, **COMMON).offsets_ns
    assert found is not None
    return found / 1e9


def test_the_first_two_keep_their_places() -> None:
    # A place is a word of the seed: what was measured before must be repeatable.
    assert NAMES[:2] == ("closed", "server")
    assert load_kind("offline") == load_kind("closed") == "connections"
    assert load_kind("server") == "rate"


def test_what_must_come_to_a_steady_state() -> None:
    changing = {"offline", "step", "ramp", "burst", "trace"}
    assert {name for name in NAMES if not BY_NAME[name].steady} == {*changing, "max_qps"}


@pytest.mark.parametrize("scenario", [name for name in NAMES if BY_NAME[name].rate])
def test_moments_ascend_from_a_seed(scenario: str) -> None:
    one, two = offsets_s(scenario), offsets_s(scenario)
    assert np.array_equal(one, two)
    assert (np.diff(one) >= 0).all() and one[0] >= 0


def test_constant() -> None:
    assert np.allclose(np.diff(offsets_s("constant")), 0.01)


def test_step_gives_each_step_its_count_and_its_rate() -> None:
    moments = offsets_s("step")
    step = schedules.step_of(10_000)
    assert np.bincount(step).tolist() == [2000] * schedules.STEPS
    for number in range(schedules.STEPS):
        mine = moments[step == number]
        rate = (len(mine) - 1) / (mine[-1] - mine[0])
        assert rate == pytest.approx(100 * (1 + number) / schedules.STEPS, rel=0.1)


def test_ramp_grows_from_a_tenth_to_the_rate() -> None:
    moments = offsets_s("ramp")
    ends = [np.count_nonzero((moments >= a) & (moments < a + 10)) / 10 for a in (0, moments[-1] - 10)]
    assert ends[0] < 30
    assert ends[1] == pytest.approx(100, rel=0.15)
    assert 10_000 / moments[-1] == pytest.approx(55, rel=0.05)


def test_burst_is_silent_but_for_a_fifth_of_the_time() -> None:
    moments = offsets_s("burst")
    assert (moments % schedules.BURST_PERIOD_S <= schedules.BURST_S + 1e-6).all()
    assert 10_000 / moments[-1] == pytest.approx(100, rel=0.05)


def test_trace_is_what_the_file_said_and_offline_is_all_at_once() -> None:
    trace = np.array([0, 5, 9], dtype=np.int64)
    common = {**COMMON, "num_requests": 3}
    found = schedules.make(scenario="trace", rate=None, trace_ns=trace, **common)
    assert found.offsets_ns is not None and found.offsets_ns.tolist() == [0, 5, 9]
    offline = schedules.make(scenario="offline", rate=None, **common)
    assert offline.offsets_ns is not None and offline.offsets_ns.tolist() == [0, 0, 0]
    for scenario in ("single_stream", "multi_stream", "closed"):
        assert schedules.make(scenario=scenario, rate=None, **common).offsets_ns is None
