from __future__ import annotations

import numpy as np
import pytest

from faceoff import stats
from report import percentiles
from report.figures import base


@pytest.mark.parametrize(("level", "needed"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688)])
def test_needed_is_where_the_interval_begins_to_exist(level, needed):
    assert percentiles.needed(level) == needed
    values = np.arange(needed, dtype=float)
    assert stats.interval(values, level) is not None
    assert stats.interval(values[:-1], level) is None


def test_percentiles_are_those_of_stats():
    values = np.random.default_rng(3).gamma(2.0, 3.0, 1500)
    found = {p.name: p for p in percentiles.all_of(values)}
    assert {name: p.value_ms for name, p in found.items()} == {n: stats.summary(values)[n] for n in stats.PERCENTILES}
    assert found["p99"].supported and not found["p99_9"].supported
    assert percentiles.all_of(values[:0]) == ()


def test_contradictions_forgive_rounding_only():
    values = np.random.default_rng(3).gamma(2.0, 3.0, 1500)
    stated = stats.summary(values)
    assert percentiles.contradictions(values, {name: round(value, 3) for name, value in stated.items()}) == []
    assert percentiles.contradictions(values, {**stated, "max": None}) == []
    (found,) = percentiles.contradictions(values, {**stated, "p99_9": stated["p99_9"] * 1.01})
    assert found.startswith("p99.9 is")


def test_the_curve_ends_at_the_slowest_and_knows_its_support():
    values = np.sort(np.random.default_rng(3).gamma(2.0, 3.0, 1500))
    levels, found, supported = percentiles.curve(values)
    assert found[0] == values[0] and found[-1] == values[-1]
    assert np.all(np.diff(levels) > 0) and np.all(np.diff(found) >= 0)
    assert percentiles.needed(levels[supported - 1]) <= 1500 < percentiles.needed(levels[supported])


@pytest.mark.parametrize("size", [2, 7, 100_000])
def test_the_curve_of_any_size(size):
    levels, found, supported = percentiles.curve(np.arange(size, dtype=float))
    assert len(levels) == len(found) and 1 <= supported <= len(levels) and levels[-1] < 1


def test_thinning_keeps_the_ends_and_is_the_same_every_time():
    picked = base.thin(100_000, 5000)
    assert len(picked) <= 5000 and picked[0] == 0 and picked[-1] == 99_999
    assert np.array_equal(picked, base.thin(100_000, 5000))
    assert np.array_equal(base.thin(10, 5000), np.arange(10))


def test_log_ticks_are_plain_numbers_within_reach():
    axis = base.log_ticks(1.3, 34.0)
    assert "2" in axis["ticktext"] and "20" in axis["ticktext"] and axis["type"] == "log"


def test_what_failed_ranks_behind_every_latency():
    values = np.arange(1, 1000, dtype=float)
    assert {p.name: p.value_ms for p in percentiles.all_of(values, 1)}["p99"] == 990.0
    assert "p99" not in {p.name for p in percentiles.all_of(values, 11)}
    stated = stats.summary(values, 11)
    assert percentiles.contradictions(values, stated, 11) == []
    (found,) = percentiles.contradictions(values, {**stated, "p99": 900.0}, 11)
    assert found == "p99 is 900 ms, its raw rows have none: too many failed"
    levels, _, _ = percentiles.curve(values, 111)
    assert levels[-1] == pytest.approx(0.9)
