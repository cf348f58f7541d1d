"""faceoff.stats."""

import numpy as np
import pytest

from faceoff import stats


def test_percentile_is_the_nearest_rank() -> None:
    values = np.arange(100, 0, -1)
    assert stats.percentile(values, 0.5) == 50
    assert stats.percentile(values, 0.99) == 99
    assert stats.percentile(values, 1.0) == 100
    assert stats.percentile(np.array([7.0]), 0.001) == 7


def test_percentile_agrees_with_numpy() -> None:
    values = np.random.default_rng(3).exponential(size=1234)
    for fraction in stats.PERCENTILES.values():
        assert stats.percentile(values, fraction) == np.quantile(values, fraction, method="inverted_cdf")


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_percentile_refuses_a_fraction_outside(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        stats.percentile(np.array([1.0]), fraction)


def test_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        stats.percentile(np.array([]), 0.5)


def test_interval_of_the_median_of_a_hundred_is_the_textbook_one() -> None:
    # Hahn and Meeker, table of distribution-free intervals: order statistics 40 and 61 of 100 for the median, 95%.
    assert stats.interval(np.arange(1, 101), 0.5) == (40, 61)


def test_interval_needs_enough_values() -> None:
    assert stats.interval(np.arange(100), 0.99) is None
    assert stats.interval(np.array([]), 0.5) is None
    assert stats.interval(np.arange(1500), 0.99) is not None


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(11)
    truth = -np.log(1 - 0.9)
    hits = 0
    for _ in range(1000):
        low, high = stats.interval(generator.exponential(size=300), 0.9) or (0.0, 0.0)
        hits += low <= truth <= high
    assert hits >= 935  # 95% of 1000, less two standard deviations


def test_summary_and_intervals() -> None:
    values = np.arange(1, 1001) / 10
    found = stats.summary(values)
    assert found == {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99_9": 99.9, "mean": 50.05, "max": 100}
    assert sorted(stats.intervals(values)) == ["p50", "p90", "p95", "p99"]


def test_summary_of_nothing_has_every_key() -> None:
    found = stats.summary(np.array([]))
    assert set(found) == {*stats.PERCENTILES, "mean", "max"}
    assert set(found.values()) == {None}
    assert stats.intervals(np.array([])) == {}
