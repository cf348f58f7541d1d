"""loadtest.schedules."""

import numpy as np

from loadtest import schedules

COMMON = {"scenario": "server", "window": 0, "num_requests": 2000, "num_payloads": 64}


def test_a_schedule_is_what_its_seed_says() -> None:
    one, two = (schedules.make(seed=5, rate=100.0, **COMMON) for _ in range(2))
    assert np.array_equal(one.order, two.order)
    assert np.array_equal(one.offsets_ns, two.offsets_ns)
    other = schedules.make(seed=6, rate=100.0, **COMMON)
    assert not np.array_equal(one.offsets_ns, other.offsets_ns)


def test_windows_and_scenarios_differ() -> None:
    orders = [
        schedules.make(seed=5, rate=None, **{**COMMON, "window": window, "scenario": scenario}).order.tobytes()
        for window in (0, 1)
        for scenario in ("closed", "server")
    ]
    assert len(set(orders)) == 4


def test_arrivals_scale_with_the_rate_and_nothing_else() -> None:
    slow, fast = (schedules.make(seed=5, rate=rate, **COMMON) for rate in (100.0, 200.0))
    assert np.array_equal(slow.order, fast.order)
    assert np.allclose(slow.offsets_ns, 2 * fast.offsets_ns, atol=1e4)


def test_arrivals_are_poisson() -> None:
    schedule = schedules.make(seed=5, rate=500.0, **{**COMMON, "num_requests": 20000})
    gaps = np.diff(schedule.offsets_ns) / 1e9
    assert abs(gaps.mean() * 500 - 1) < 0.03
    assert abs(gaps.std() * 500 - 1) < 0.03
    assert (gaps >= 0).all()
    assert abs(schedule.duration_s - 40) < 2


def test_a_closed_loop_has_no_moments() -> None:
    schedule = schedules.make(seed=5, rate=None, **{**COMMON, "scenario": "closed"})
    assert schedule.offsets_ns is None
    assert schedule.duration_s == 0
    assert schedule.order.min() >= 0 and schedule.order.max() < 64


def test_warm_up_meets_every_payload() -> None:
    schedule = schedules.warm_up(seed=1, num_requests=100, num_payloads=64)
    assert sorted(set(schedule.order[:64])) == list(range(64))
    assert schedule.offsets_ns is None
    assert schedules.warm_up(seed=1, num_requests=100, num_payloads=64, rate=10.0).offsets_ns is not None
