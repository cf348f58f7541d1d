"""loadtest.search_rules: the rules of max_qps, with servers that are a formula."""

import itertools

import numpy as np
import pytest

from experiment import plan
from loadtest import checks
from loadtest import search_rules as rules


@pytest.mark.parametrize(
    ("num", "over", "found"),
    [(458, 0, None), (459, 0, True), (1000, 10, None), (1000, 0, True), (1000, 25, False), (50, 50, False)],
)
def test_the_binomial_test(num: int, over: int, found: bool | None) -> None:
    # 459 queries without one over it is LoadGen's figure for p99 at 99% confidence
    assert rules.verdict(num, over, 0.01) is found


@pytest.mark.parametrize(("num", "most"), [(100, 1), (99, 0), (1000, 10), (1500, 15), (1, 0)])
def test_as_many_may_be_over_as_the_nearest_rank_bears(num: int, most: int) -> None:
    assert rules.most_over(num, 0.01) == most


@pytest.mark.parametrize("limit", [3.0, 99.0, 100.0, 12_345.0])
@pytest.mark.parametrize("start", [100.0, 5000.0])
def test_the_search_ends_just_below_the_limit(limit: float, start: float) -> None:
    asked = []

    def passes(rate: float) -> bool:
        asked.append(rate)
        return rate <= limit

    found = rules.highest(passes, start)
    assert found is not None
    assert limit / rules.RESOLUTION <= found <= limit
    assert len(asked) <= rules.MAX_POINTS


@pytest.mark.parametrize("answer", [True, False])
def test_a_search_without_an_end_finds_nothing(answer: bool) -> None:
    assert rules.highest(lambda rate: answer, 100.0) is None


def test_a_search_of_few_probes_ends_with_the_bracket_it_has():
    tried = []

    def passes(rate):
        tried.append(rate)
        return rate <= 170.0

    found = rules.highest(passes, 100.0, 5)
    points = [{"rate": rate, "passed": rate <= 170.0} for rate in tried]
    low, high = rules.bracket(points, [])
    assert len(tried) == 5
    assert found == low <= 170.0 < high
    assert high / low < 1.2


def test_a_search_of_few_probes_on_one_side_only_has_found_nothing():
    assert rules.highest(lambda rate: True, 100.0, 3) is None
    assert rules.bracket([{"rate": 100.0, "passed": True}], []) == [100.0, None]


def test_a_refuted_rate_has_failed_whatever_the_search_said() -> None:
    points = [{"rate": rate, "passed": rate < 110.0} for rate in (80.0, 120.0, 100.0, 110.0)]
    refuted, stood = {"rate": 100.0, "refuted": True}, {"rate": 98.0, "refuted": False}
    assert rules.bracket(points, []) == [100.0, 110.0]
    assert rules.bracket(points, [{"rate": 100.0, "refuted": False}]) == [100.0, 110.0]
    assert rules.bracket(points, [refuted, stood]) == [98.0, 100.0]
    assert rules.bracket(points, [refuted]) == [80.0, 100.0]
    assert rules.bracket(points[2:], [refuted]) == [None, 100.0]


def test_a_rate_far_from_the_limit_is_judged_by_a_short_window() -> None:
    asked: list[int] = []

    def over_of(fraction: float):
        def count(num: int, limit: int | None) -> int:
            asked.append(num)
            return round(fraction * num)

        return count

    assert rules.judged(over_of(0.0), 4000, 0.01) == (True, "binomial", 1000, 0)
    assert rules.judged(over_of(0.2), 4000, 0.01) == (False, "binomial", 1000, 200)
    assert asked == [1000, 1000]
    assert rules.judged(over_of(0.01), 4000, 0.01) == (True, "percentile", 4000, 40)
    assert rules.judged(over_of(0.011), 4000, 0.01)[:2] == (False, "percentile")
    assert rules.short(300) == 300


def confirmed(short: float, long: float, stands: float, probes: int | None = None) -> tuple[tuple, list[float], list[tuple]]:
    """A server that bears `short` in the windows of the search, `long` in those of the second and `stands` in confirmations."""
    asked, confirmations = [], []

    def passes(rate: float, below: float | None) -> bool:
        if below is not None:
            assert (0, below) == confirmations[0]
            asked.append(rate)
        return rate <= (short if below is None else long)

    def refuted(rate: float, number: int) -> bool:
        confirmations.append((number, rate))
        return rate > stands

    return rules.highest_confirmed(passes, refuted, 300.0, probes), asked, confirmations


def test_a_rate_that_stands_is_searched_for_once() -> None:
    (found, rate), again, confirmations = confirmed(400.0, 0.0, 500.0)
    assert found == rate and 396.0 <= found <= 400.0
    assert (again, confirmations) == ([], [(0, found)])


@pytest.mark.parametrize("long", [398.0, 390.0, 250.0, 90.0])
def test_a_rate_that_is_refuted_is_searched_for_below(long: float) -> None:
    (found, rate), again, confirmations = confirmed(400.0, long, 0.99 * long)
    assert found is not None and rate is not None
    assert all(tried < found for tried in again)
    assert confirmations[0] == (0, found)
    assert 0.96 * long <= rate <= 0.99 * long


def test_a_rate_near_the_one_that_was_refuted_is_found_in_few_windows() -> None:
    (_, rate), again, confirmations = confirmed(400.0, 392.0, 392.0)
    assert rate is not None and 388.0 <= rate <= 392.0
    assert (len(again), len(confirmations)) == (4, 2)


def test_a_second_search_of_few_probes_comes_as_near_as_the_first() -> None:
    (found, rate), again, confirmations = confirmed(400.0, 392.0, 392.0, probes=6)
    assert rate is not None and found is not None
    assert (len(again), len(confirmations)) == (1, 2)
    assert found / rate <= rules.FEW_RESOLUTION


def test_a_search_that_was_refuted_has_as_many_probes_again() -> None:
    (found, rate), again, _ = confirmed(400.0, 250.0, 250.0, probes=5)
    assert len(again) == 5
    assert rate is not None and found is not None and 200.0 < rate <= 250.0


def test_a_rate_that_never_stands_is_given_up_at_last() -> None:
    (found, rate), _, confirmations = confirmed(400.0, 300.0, 0.0)
    assert found is not None and rate is None
    assert [number for number, _ in confirmations] == [0, 1, 2, 3, 4]
    steps = [b[1] / a[1] for a, b in itertools.pairwise(confirmations[1:])]
    assert steps == pytest.approx([0.98, 0.98**2, 0.98**3])
    assert confirmed(400.0, 0.0, 0.0)[0] == (found, None)  # nothing below it passes
    assert confirmed(0.0, 0.0, 0.0)[0] == (None, None)


def test_the_windows_of_a_first_search_may_be_short_and_those_of_a_second_are_its_confirmations() -> None:
    usual = {"seed": 1, "num_requests": 8000, "slo_ms": 25.0}
    first = rules.window(1000.0, None, **usual)
    assert first == rules.Window(seed=1, num_requests=8000, at_least=1000)
    num = rules.confirmation_requests(8000, 1000.0, 25.0)
    for rate in (300.0, 900.0):  # of the same number at every rate: the same arrivals, scaled
        assert rules.window(rate, 1000.0, **usual) == rules.Window(
            seed=rules.confirmation_seed(1, 0), num_requests=num, at_least=num
        )
    assert num == 8000
    assert rules.confirmation_requests(1000, 1000.0, 25.0) == 2500
    assert rules.confirmation_seed(1, 0) != rules.confirmation_seed(1, 1) != 1


def test_a_rate_at_which_a_window_would_be_too_long_is_none() -> None:
    usual = {"seed": 1, "num_requests": 1500, "slo_ms": 25.0}
    assert rules.window(2.4, None, **usual) is None  # 625 s
    assert rules.window(2.4, None, **usual, limit_s=1000.0) is not None
    assert rules.window(2.4, 100.0, **usual) is None
    assert rules.window(2e6, None, **usual) is None  # 2,000,000 requests
    assert rules.CONFIRM_SLOS * checks.MAX_SEARCH_SLO_MS / 1000 == checks.MAX_WINDOW_S


def test_a_window_of_the_search_is_long_enough_for_a_queue_to_reach_the_slo():
    asked = []

    def over_of(num, limit):
        asked.append(num)
        return 0

    assert rules.least(5000.0, 50.0, 20) == 5000
    assert rules.judged(over_of, 1500, 0.01, rules.least(5000.0, 50.0, 20)) == (True, "percentile", 5000, 0)
    assert rules.judged(over_of, 1500, 0.01, rules.least(100.0, 50.0, 20)) == (True, "binomial", 500, 0)
    assert asked == [5000, 500]


@pytest.mark.parametrize(("num_slos", "beyond"), [(rules.SEARCH_SLOS, 1.026), (rules.CONFIRM_SLOS, 1.011)])
@pytest.mark.parametrize(("service_ms", "slo_ms"), [(0.5, 25.0), (0.5, 100.0), (4.0, 100.0)])
def test_a_queue_that_is_offered_more_than_it_bears_reaches_the_slo(
    num_slos: int, beyond: float, service_ms: float, slo_ms: float
) -> None:
    def over(rate: float) -> bool:
        """Whether an M/D/1 queue is refused; constant arrivals, so that it is the growth alone that refuses it."""
        num = rules.least(rate, slo_ms, num_slos)
        arrivals_ms = np.arange(num) * 1000 / rate
        # each begins when it arrives or when those before it are done: Lindley's recursion as a running maximum
        waiting = np.maximum.accumulate(arrivals_ms - service_ms * np.arange(num)) + service_ms * np.arange(num) - arrivals_ms
        late = int(np.count_nonzero(waiting + service_ms > slo_ms))
        return rules.verdict(num, late, 0.01) is False

    assert over(beyond * 1000 / service_ms)
    assert not over(0.999 * 1000 / service_ms)


def test_the_plan_of_a_comparison_knows_how_long_a_search_lasts() -> None:
    assert (plan.SEARCH_SLOS, plan.CONFIRM_SLOS) == (rules.SEARCH_SLOS, rules.CONFIRM_SLOS)
