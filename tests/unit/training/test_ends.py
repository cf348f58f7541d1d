"""What two trainings end with, on files as trainings leave them."""

import json

import numpy as np
import pytest

from faceoff import processes
from faceoff.errors import FaceoffError
from training import ends, outcome, plan, rounding, train, weights
from training import job as jobs

WEIGHTS = {"dense/kernel": np.full((2, 3), 4.0, np.float32), "bn/moving_mean": np.full(3, 0.5, np.float32)}


def trained(directory, *, of_tf=None, accuracies=(0.9, 0.9), losses=(2.0, 1.0)):
    """Two trainings that ended with WEIGHTS, but for what is said of TensorFlow's."""
    for framework, accuracy in zip(("torch", "tf"), accuracies, strict=True):
        values = WEIGHTS | (of_tf or {}) if framework == "tf" else WEIGHTS
        weights.save(directory / framework / "weights.npz", values)
        record = {"losses": list(losses), "test_accuracy": accuracy}
        (directory / framework / "record.json").write_text(json.dumps(record))
    return directory


def job(*options):
    return jobs.from_args(train.parser().parse_args(["--model", "mlp", *options]))


@pytest.mark.parametrize(
    ("of_tf", "name", "difference"),
    [
        ({}, "dense/kernel", 0.0),
        ({"dense/kernel": WEIGHTS["dense/kernel"] + 4e-3}, "dense/kernel", 1e-3),  # of its largest value
        ({"bn/moving_mean": WEIGHTS["bn/moving_mean"] * 1.002}, "bn/moving_mean", 1e-3),
        ({"bn/moving_mean": np.array([0.5, np.nan, 0.5], np.float32)}, "bn/moving_mean", np.inf),
    ],
)
def test_the_variable_that_differs_most_is_named(tmp_path, of_tf, name, difference):
    largest = ends.compare(trained(tmp_path, of_tf=of_tf), bound=1e-6)["weights"]
    assert (largest["name"], largest["bound"]) == (name, 1e-6)
    assert largest["max_difference"] == pytest.approx(difference, rel=1e-3)


def test_a_model_without_weights_ends_equal(tmp_path):
    for framework in ("torch", "tf"):
        weights.save(tmp_path / framework / "weights.npz", {})
        (tmp_path / framework / "record.json").write_text(json.dumps({"losses": [], "test_accuracy": None}))
    found = ends.compare(tmp_path, bound=1e-6)
    assert found["weights"] is None
    ends.require_equal(found, what="identity")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"of_tf": {"bn/moving_mean": WEIGHTS["bn/moving_mean"] + 1e-4}},
            "trained weights do not: 'bn/moving_mean' differs by 0.0001",
        ),
        ({"accuracies": (0.9, 0.85)}, "their test accuracies do not: torch 0.9, tf 0.85"),
    ],
)
def test_equal_losses_are_not_enough(tmp_path, changes, words):
    with pytest.raises(FaceoffError, match=words) as caught:
        train.judge(job("--precision", "float64"), trained(tmp_path, **changes))
    assert "ends" in caught.value.details


@pytest.mark.parametrize(
    ("options", "of_tf", "losses_apart", "steps"),
    [
        ((), {}, None, 20),  # running statistics, which no loss reads
        (("--precision", "bf16"), {}, None, 20),
        ((), {"dense/kernel": WEIGHTS["dense/kernel"] + 0.01}, None, 200),  # parted in weights alone
        ((), {}, 3, 200),
        (("--precision", "float64"), {}, 3, 0),
    ],
)
def test_what_is_repeated_in_float64(tmp_path, options, of_tf, losses_apart, steps):
    found = ends.compare(trained(tmp_path, of_tf=of_tf), bound=ends.FLOAT32_BOUND)
    apart = {"first_step_apart": losses_apart, "ends": found}
    assert rounding.steps_to_repeat(job(*options), tmp_path, apart) == steps


def test_without_running_statistics_equal_weights_need_no_float64(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "run_stages", lambda *args: pytest.fail("trained again"))
    for framework in ("torch", "tf"):
        weights.save(tmp_path / framework / "weights.npz", {"dense/bias": np.zeros(3, np.float32)})
        (tmp_path / framework / "record.json").write_text(json.dumps({"losses": [1.0], "test_accuracy": 0.9}))
    apart = train.judge(job(), tmp_path)
    assert "float64" not in apart
    assert rounding.story(apart) == ["trained weights differ by at most 0 (dense/bias)"]


def test_the_sentence_says_over_how_many_steps(tmp_path):
    exact = outcome.compare_losses([2.0, 1.0], [2.0, 1.0], **job("--precision", "float64").loss_bounds)
    found = ends.compare(trained(tmp_path), bound=1e-6)
    apart = {"first_step_apart": None, "ends": found, "float64": {**exact, "ends": found, "float32_noise": {"torch": 1e-7}}}
    assert rounding.story(apart)[1].startswith("in float64 losses differ by at most 0 over 2 steps, stated bound 1e-08, ")
    assert rounding.story({**apart, "first_step_apart": 1})[1].startswith("it is rounding: in float64 losses")


def test_fewer_steps_are_the_first_of_the_same_batches():
    fewer, all_of_them = (job(*options) for options in ((), ("--profile", "full")))
    batches = [plan.draw_batches(100, 8, steps, 20) for steps in (fewer.with_steps(20).num_steps, all_of_them.num_steps)]
    assert len(batches[0]) == 20
    assert (batches[0] == batches[1][:20]).all()
