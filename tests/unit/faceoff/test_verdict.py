"""faceoff.verdict: what the rule says of thousands of experiments whose truth is known, and its words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from faceoff import ratios, verdict
from tests.fakes import visits

EXPERIMENTS = 3000
ALLOWED = 0.05 + 3 * math.sqrt(0.05 * 0.95 / EXPERIMENTS)  # three standard errors of the simulation itself
CONFIDENCE = ratios.bonferroni(verdict.CONFIDENCE, visits.NUM_CELLS)
P99 = visits.WAYS * visits.TUNINGS * list(visits.FIGURES).index("p99")
SPREADS = [{}, {"uneven": 3.0}, {"uneven": 1 / 3}, {"outliers": 0.05}]


def outcomes(a: np.ndarray, b: np.ndarray, floor: object = None, confidence: float = CONFIDENCE) -> np.ndarray:
    return ratios.decide(*ratios.log_ratio(a, b, confidence), floor)


def floors(drawn: visits.Experiments) -> np.ndarray:
    difference, half = ratios.log_ratio(drawn.a, drawn.again, CONFIDENCE)
    return np.maximum(np.expm1(np.abs(difference) + half), ratios.SMALLEST)


@pytest.mark.parametrize("num_visits", [3, 5, 10])
@pytest.mark.parametrize("how", SPREADS, ids=["alike", "b_noisy", "a_noisy", "outliers"])
def test_equal_servers_are_called_different_in_at_most_one_experiment_of_twenty(num_visits: int, how: dict) -> None:
    drawn = visits.draw(EXPERIMENTS, num_visits=num_visits, seed=num_visits, **how)
    assert (outcomes(drawn.a, drawn.again) != 0).any(axis=-1).mean() <= ALLOWED  # a server against itself
    called = outcomes(drawn.a, drawn.b, floors(drawn))
    assert (abs(called) == 1).any(axis=-1).mean() <= ALLOWED
    one = outcomes(drawn.a[:, P99], drawn.b[:, P99], confidence=verdict.CONFIDENCE)
    assert (one != 0).mean() <= 0.075  # Welch's interval is approximate where the sides differ: 5.9% is the worst in 20,000


def test_the_check_would_catch_a_bootstrap() -> None:
    drawn = visits.draw(400, num_visits=3, seed=3)
    low, high = visits.percentile_bootstrap(drawn.a[:, P99], drawn.b[:, P99], 0.95)
    assert ((low > 0) | (high < 0)).mean() > 0.12


@pytest.mark.parametrize("num_visits", [3, 5, 10])
@pytest.mark.parametrize("uneven", [1.0, 2.0])
def test_a_difference_of_ten_percent_is_found_as_often_as_claimed(num_visits: int, uneven: float) -> None:
    drawn = visits.draw(EXPERIMENTS, num_visits=num_visits, ratio=1.1, seed=20 + num_visits, uneven=uneven)
    seen = outcomes(drawn.a, drawn.b) == 1
    deviations = visits.deviations(), visits.deviations(uneven)
    for cell in range(visits.NUM_CELLS):
        spread = float(deviations[0][cell]), float(deviations[1][cell])
        claimed = ratios.chances(ratios.Truth(difference=math.log(1.1), deviations=spread, confidence=CONFIDENCE), num_visits)
        assert abs(seen[:, cell].mean() - claimed.found) < 0.04
    if num_visits == 10 and uneven == 1:
        assert seen.mean() > 0.8  # so that the claim is not met by finding nothing


@pytest.mark.parametrize("truth", [0.0, 0.02, math.log(1.08), 0.1])
def test_with_a_floor_both_verdicts_come_as_often_as_claimed(truth: float) -> None:
    drawn = visits.draw(EXPERIMENTS, num_visits=10, ratio=math.exp(truth), seed=5)
    seen = outcomes(drawn.a[:, P99], drawn.b[:, P99], 0.08)
    spread = float(visits.deviations()[P99])
    known = ratios.Truth(difference=truth, deviations=(spread, spread), confidence=CONFIDENCE, floor=0.08)
    claimed = ratios.chances(known, 10)
    assert abs((seen == 1).mean() - claimed.found) < 0.04
    assert abs((seen == 2).mean() - claimed.absent) < 0.04


def test_the_repeats_that_are_asked_for_are_enough_and_not_too_many() -> None:
    spread = float(visits.deviations()[P99])
    known = ratios.Truth(difference=math.log(1.1), deviations=(spread, spread), confidence=CONFIDENCE)
    needed = ratios.repeats_needed(known, 3)
    assert needed is not None and 5 < needed < 20
    fewer, enough = (visits.draw(EXPERIMENTS, num_visits=n, ratio=1.1, seed=9) for n in (needed - 2, needed))
    assert (outcomes(fewer.a, fewer.b) == 1)[:, P99].mean() < ratios.POWER
    assert (outcomes(enough.a, enough.b) == 1)[:, P99].mean() > ratios.POWER - 0.03
    nothing = ratios.Truth(difference=0.0, deviations=(spread, spread), confidence=CONFIDENCE)
    assert ratios.repeats_needed(nothing, 3) is None  # a difference that is not there is never found


# -- one comparison --


def pair(**more) -> verdict.Pair:
    given = {
        "metric": "p99",
        "model": "cnn",
        "protocol": "rest",
        "encoding": "json",
        "scenario": "server",
        "at": "200 requests/s",
        "a": "torchserve",
        "b": "tfserving-embedded",
        "a_values": (10.0, 10.3, 9.9),
        "b_values": (5.5, 5.6, 5.4),
    }
    return verdict.Pair(**{**given, **more})


def against_itself(**more) -> verdict.Pair:
    return pair(kind="aa", b="torchserve", b_values=(10.1, 10.4, 10.0), **more)


def test_the_interval_is_welchs() -> None:
    from scipy.stats import ttest_ind

    a, b = pair().a_values, pair().b_values
    difference, half = ratios.log_ratio(a, b, 0.95)
    low, high = ttest_ind(np.log(a), np.log(b), equal_var=False).confidence_interval(0.95)
    assert (difference - half, difference + half) == pytest.approx((low, high))


def test_each_verdict_in_words() -> None:
    aa, one = verdict.judge([pair(), against_itself()])
    assert (aa.kind, aa.verdict, aa.a) == ("aa", "no_difference", aa.b)
    assert aa.sentence.startswith("TorchServe against itself: p99 latency 1.01 times (")
    assert aa.noise_floor == pytest.approx(max(aa.ci_high, 1 / aa.ci_low) - 1)
    assert one.verdict == "b_faster" and one.ci_low < one.ratio < one.ci_high
    assert one.sentence.startswith("tfserving-embedded is faster: TorchServe's p99 latency is 1.83 times (")
    assert one.sentence.endswith(" tfserving-embedded's [REST (json), 200 requests/s, as installed].")

    tight = pair(b_values=(10.05, 10.06, 10.07), a_values=(10.06, 10.05, 10.07))
    same = verdict.judge([tight, against_itself()])[1]
    assert same.verdict == "no_difference"
    assert same.sentence.startswith(f"No difference in p99 latency larger than the noise floor of {aa.noise_floor:.1%}")

    finer = verdict.compare(tight, noise_floor=0.02, num_comparisons=1)
    assert finer.sentence.startswith("No difference in p99 latency larger than 5% (noise floor 2%): ")

    wide = verdict.judge([pair(b_values=(9.9, 10.6, 9.7)), against_itself()])[1]
    assert wide.verdict == "cannot_tell" and wide.more_repeats
    assert f"needs about {wide.more_repeats} more repeats" in wide.sentence


def test_digits_that_say_nothing_are_not_written() -> None:
    few = pair(metric="max_qps", a_values=(2722.0, 3010.0), b_values=(3736.0, 7235.0))
    one = verdict.compare(few, noise_floor=558.9, num_comparisons=20)
    assert one.ci_high > 1e6  # the figures themselves are kept as they are
    assert "1.82 times (under 0.001 to over 1,000)" in one.sentence and "noise floor over 1,000%" in one.sentence


def test_two_visits_as_far_apart_as_can_be_are_compared_and_not_an_overflow() -> None:
    far = (0.01, 9e4)
    aa, one = (
        verdict.compare(given, noise_floor=None, num_comparisons=20)
        for given in (against_itself(a_values=far), pair(a_values=far, b_values=(1.0, 2.0)))
    )
    assert one.verdict == "cannot_tell" and aa.verdict == "no_difference"
    assert 0 < one.ci_low < one.ci_high < math.inf and aa.noise_floor < math.inf


def test_higher_is_better_for_throughput_and_the_larger_one_is_the_subject() -> None:
    one = verdict.judge([pair(metric="throughput_rps", scenario="closed", at="4 connections")])[0]
    assert one.verdict == "a_faster"
    assert one.sentence.startswith("TorchServe is faster: TorchServe's throughput is 1.83 times")
    other = verdict.judge([pair(a_values=(5.5, 5.6, 5.4), b_values=(10.0, 10.3, 9.9))])[0]
    assert other.verdict == "a_faster" and other.ratio < 1
    assert other.sentence.startswith("TorchServe is faster: tfserving-embedded's p99 latency is 1.83 times (1.")


def test_without_an_aa_run_absence_is_never_claimed() -> None:
    same = (10.0, 10.0001, 9.9999)
    one = verdict.judge([pair(a_values=same, b_values=same)])[0]
    assert (one.verdict, one.noise_floor) == ("cannot_tell", None)


def test_a_difference_below_the_floor_is_not_one() -> None:
    real = pair(a_values=(10.3, 10.301, 10.302), b_values=(10.0, 10.001, 10.002))
    assert verdict.judge([real])[0].verdict == "b_faster"
    assert verdict.judge([real, against_itself()])[1].verdict == "no_difference"
    below = pair(a_values=(10.05, 10.051, 10.052), b_values=(10.0, 10.001, 10.002))
    assert verdict.compare(below, noise_floor=0.0, num_comparisons=1).verdict == "no_difference"  # 0.5% is nobody's reason


def test_a_floor_is_that_of_the_same_figure_and_more_comparisons_widen_every_interval() -> None:
    floors = [against_itself(), against_itself(metric="p50")]
    alone = verdict.judge([pair(), *floors[:1]])[1]
    several = verdict.judge([pair(), pair(metric="p50"), pair(tuning="best"), *floors])
    assert [c.num_comparisons for c in several] == [3] * 5
    assert several[2].ci_low < alone.ci_low and several[2].noise_floor > alone.noise_floor
    assert verdict.judge([pair(metric="p50"), against_itself()])[1].noise_floor is None


def test_a_server_that_differs_from_itself_raises_the_floor_above_that() -> None:
    aa, one = verdict.judge(
        [pair(a_values=(7.0, 7.1, 7.05), b_values=(7.0, 7.1, 6.9)), against_itself(a_values=(5.0, 5.05, 4.95))]
    )
    assert aa.verdict == "a_faster" and aa.sentence.startswith("TorchServe differs from itself")
    assert one.noise_floor == aa.noise_floor > 0.5
    assert one.verdict == "cannot_tell"  # within so coarse a floor, but "no difference" would say nothing


def test_a_coarse_search_widens_the_interval_by_its_step() -> None:
    same = (400.0, 400.0, 400.0)  # a bracket's end, found three times: not a measured spread of 0
    exact, coarse = (pair(metric="max_qps", a_values=same, b_values=(420.0,) * 3, resolution=step) for step in (0.0, 0.1))
    assert verdict.judge([exact])[0].verdict == "b_faster"
    widened = verdict.judge([coarse])[0]
    assert widened.verdict == "cannot_tell"
    assert (widened.ci_low, widened.ci_high) == pytest.approx((400 / 420 / 1.1, 400 / 420 * 1.1))


def test_too_few_visits_are_left_out_and_said() -> None:
    few = pair(a_values=(10.0,))
    assert verdict.judge([few]) == []
    assert verdict.unjudged([few, pair()]) == [
        "No verdict on p99 latency [REST (json), 200 requests/s, as installed]: 1 VALID of TorchServe and 3 of "
        "tfserving-embedded, needs at least 2 of each."
    ]


@pytest.mark.parametrize("values", [(1.0, 0.0), (1.0, -1.0), (1.0, math.nan), (1.0, math.inf), (1.0,)])
def test_what_no_ratio_can_be_made_of_is_refused(values: tuple) -> None:
    with pytest.raises(ValueError, match=r"positive numbers|at least 2"):
        verdict.compare(pair(a_values=values), noise_floor=None, num_comparisons=1)


def test_a_pair_is_checked_and_a_comparison_is_json_with_the_agreed_keys() -> None:
    with pytest.raises(ValueError, match="metric 'p42'"):
        pair(metric="p42")
    with pytest.raises(ValueError, match="against itself is aa"):
        pair(kind="aa")
    agreed = ["kind", "metric", "model", "protocol", "encoding", "scenario", "tuning", "a", "b"]
    agreed += ["ratio", "ci_low", "ci_high", "verdict", "sentence"]
    for one in verdict.judge([pair(), pair(b_values=(9.9, 10.6, 9.7)), against_itself()]):
        data = json.loads(json.dumps(one.to_dict(), allow_nan=False))
        assert set(agreed) <= set(data)
        assert all(math.isfinite(data[key]) for key in ("ratio", "ci_low", "ci_high"))


# -- drift --


def test_a_drift_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(2)
    orders = rng.permuted(np.tile(np.arange(10), (1000, 1)), axis=1).reshape(1000, 2, 5)
    noise = rng.normal(0, 0.02, orders.shape) + np.array([0.0, 0.7])[:, None]
    p_values, found_drift = [], 0
    for order, values in zip(orders, noise, strict=True):
        still = ratios.drift([(o, np.exp(v)) for o, v in zip(order, values, strict=True)])
        moving = ratios.drift([(o, np.exp(v + 0.15 * o / 9)) for o, v in zip(order, values, strict=True)])
        assert still and moving
        p_values.append(still.p_value)
        found_drift += moving.p_value < 0.05 and moving.low < math.exp(0.15) < moving.high
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.07
    assert found_drift > 900
    assert ratios.drift([([0, 1], [1.0, 2.0])]) is None  # a line through two points proves nothing
