"""The equivalence test against experiments whose truth is known."""

import functools
import math

import numpy as np
import pytest
from scipy import stats

from training.equivalence import seeds_needed, tost

MARGIN, ALPHA, NUM_EXPERIMENTS = 0.01, 0.05, 4000
# What chance alone may add to a rate of alpha in so many experiments: three standard errors.
CHANCE = 3 * math.sqrt(ALPHA * (1 - ALPHA) / NUM_EXPERIMENTS)


def rates(difference: float, spreads: tuple[float, float], num: int, *, paired: bool = False, seed: int = 0) -> dict[str, float]:
    """How often each verdict is given over many experiments with this true difference."""
    rng = np.random.default_rng(seed)
    found = {"equivalent": 0, "different": 0, "cannot": 0}
    for _ in range(NUM_EXPERIMENTS):
        shared = rng.normal(0, 0.05, num) if paired else 0.0
        a = 0.95 + difference + shared + rng.normal(0, spreads[0], num)
        b = 0.95 + shared + rng.normal(0, spreads[1], num)
        found[tost(a, b, margin=MARGIN, alpha=ALPHA, paired=paired).verdict.split()[0]] += 1
    return {verdict: count / NUM_EXPERIMENTS for verdict, count in found.items()}


@pytest.mark.parametrize("difference", [MARGIN, -MARGIN])
@pytest.mark.parametrize(("spreads", "num"), [((0.002, 0.002), 5), ((0.001, 0.004), 5), ((0.006, 0.006), 10), ((0.02, 0.02), 5)])
def test_a_difference_as_large_as_the_margin_is_called_equivalent_at_most_alpha_often(difference, spreads, num):
    assert rates(difference, spreads, num)["equivalent"] <= ALPHA + CHANCE


@pytest.mark.parametrize("num_rows", [128, 360, 1000])
@pytest.mark.parametrize("num", [2, 3, 5])
def test_so_is_it_where_accuracies_are_counts_of_a_small_test_set(num_rows, num):
    """The hardest counts: each is one of two neighbours, so that few seeds often show no spread at all."""
    shown = functools.cache(lambda a, b: tost(a, b, margin=MARGIN, step=1 / num_rows).verdict)
    rng = np.random.default_rng(num_rows + num)
    for mean in (0.0, 0.35, 0.7):
        counts = [neighbours(rng, 100 + mean + rows, num) / num_rows for rows in (0, MARGIN * num_rows)]
        verdicts = [shown(tuple(a), tuple(b)) for a, b in zip(*counts, strict=True)]
        assert verdicts.count("equivalent within 0.01") / NUM_EXPERIMENTS <= ALPHA + CHANCE, mean


def neighbours(rng: np.random.Generator, mean: float, num: int) -> np.ndarray:
    """Integers (experiments, num), sorted in each: the one below `mean` or the one above, so often that `mean` is theirs."""
    below = math.floor(mean)
    return np.sort(below + (rng.random((NUM_EXPERIMENTS, num)) < mean - below), axis=1)


def test_a_step_leaves_a_spread_that_is_larger_as_it_is():
    spread = np.array([-1, -0.5, 0, 0.5, 1]) * 0.005
    assert tost(0.95 + spread, 0.95 + spread, margin=MARGIN, step=1e-3) == tost(0.95 + spread, 0.95 + spread, margin=MARGIN)
    paired = tost(0.95 + spread, 0.95 + spread, margin=MARGIN, step=1e-3, paired=True)
    assert paired.interval[1] == pytest.approx(stats.t.ppf(1 - ALPHA, 4) * math.sqrt(2 * 1e-6 / 4 / 5))


def test_pairs_keep_the_rate_too_and_need_no_more_seeds_than_their_differences_ask():
    assert rates(MARGIN, (0.002, 0.002), 5, paired=True)["equivalent"] <= ALPHA + CHANCE
    assert rates(0.0, (0.002, 0.002), 5, paired=True)["equivalent"] > 0.95  # although single values spread by 0.05


def test_equal_means_are_called_different_at_most_alpha_often():
    assert rates(0.0, (0.02, 0.02), 5)["different"] <= ALPHA + CHANCE
    assert rates(0.0, (0.01, 0.03), 5)["different"] <= ALPHA + CHANCE


def test_what_is_equal_or_far_apart_is_found_when_the_spread_allows():
    assert rates(0.0, (0.002, 0.002), 5)["equivalent"] > 0.95
    assert rates(3 * MARGIN, (0.002, 0.002), 5)["different"] > 0.95
    assert rates(0.0, (0.02, 0.02), 5)["cannot"] > 0.8  # looks alike, shows nothing


def test_as_many_seeds_as_are_called_needed_give_the_stated_power():
    needed = seeds_needed(0.008, MARGIN)
    assert rates(0.0, (0.008, 0.008), needed)["equivalent"] >= 0.77
    assert seeds_needed(0.5, 0.001) is None


def test_seeds_are_advised_only_when_they_are_more_than_there_were():
    spread = np.array([-1, -0.5, 0, 0.5, 1]) * 0.02
    wide = tost(0.95 + spread, 0.95 + spread, margin=MARGIN)
    assert wide.verdict == "cannot tell: needs more seeds"
    assert wide.advice == wide.to_dict()["advice"] == wide.seeds_needed > 5
    between = tost(0.95 + spread / 4, 0.9555 + spread / 4, margin=MARGIN)  # nearly as far apart as the margin, and a small spread
    assert between.verdict == "cannot tell: needs more seeds"
    assert between.seeds_needed <= 5
    assert between.advice is None
    assert tost(0.95 + spread / 20, 0.95 + spread / 20, margin=MARGIN).advice is None  # nothing is missing


def test_the_figures_are_scipys():
    a, b = [0.97, 0.981, 0.975, 0.969, 0.98], [0.972, 0.97, 0.985, 0.966, 0.971]
    result = tost(a, b, margin=MARGIN)
    above = stats.ttest_ind(np.array(a) + MARGIN, b, equal_var=False, alternative="greater")
    below = stats.ttest_ind(np.array(a) - MARGIN, b, equal_var=False, alternative="less")
    assert result.p_value == pytest.approx(max(above.pvalue, below.pvalue))
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert result.p_difference == pytest.approx(welch.pvalue)
    assert result.degrees_of_freedom == pytest.approx(welch.df)
    interval = welch.confidence_interval(1 - 2 * ALPHA)
    assert result.interval == pytest.approx((interval.low, interval.high))


def test_the_verdict_and_the_interval_say_the_same():
    rng = np.random.default_rng(1)
    for _ in range(300):
        result = tost(rng.normal(0, 0.01, 4), rng.normal(0.004, 0.004, 6), margin=MARGIN)
        inside = result.interval[0] > -MARGIN and result.interval[1] < MARGIN
        assert (result.verdict == "equivalent within 0.01") == inside


@pytest.mark.parametrize(
    ("other", "verdict"), [(0.95, "equivalent within 0.01"), (0.945, "equivalent within 0.01"), (0.9, "different")]
)
def test_values_without_any_spread_decide_by_themselves(other, verdict):
    assert tost([0.95] * 3, [other] * 3, margin=MARGIN).verdict == verdict


@pytest.mark.parametrize(("a", "b", "options"), [([1.0], [1.0, 2.0], {}), ([1.0, 2.0], [1.0, 2.0, 3.0], {"paired": True})])
def test_too_few_values_are_refused(a, b, options):
    with pytest.raises(ValueError, match="expected at least 2"):
        tost(a, b, margin=MARGIN, **options)
    with pytest.raises(ValueError, match="margin"):
        tost([1.0, 2.0], [1.0, 2.0], margin=0)
