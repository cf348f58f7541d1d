import json
import math

import numpy as np
import pytest

from faceoff import processes
from faceoff.errors import FaceoffError
from training import distributed, modes, outcome, study, train, weights
from training import job as jobs


def curves(num=250):
    torch = np.linspace(2.3, 0.1, num)
    return torch.tolist(), (torch + 1e-7).tolist()


def test_losses_that_stay_together_pass():
    found = outcome.compare_losses(*curves(), bound=1e-4)
    assert found["max_abs_loss_difference"] == pytest.approx(1e-7)
    assert found["first_step_apart"] is None
    outcome.require_lockstep(found, model="cnn", what="cnn")


@pytest.mark.parametrize(
    ("step", "size", "words"),
    [
        (0, 2e-4, "at step 1 of 200 .*compare_layers --model cnn"),
        (2, 2e-4, "more than 0.0001 apart at step 3 of 200"),
        (30, 0.06, "more than 0.05 apart at step 31 of 200"),
        (199, math.nan, "at step 200 of 200"),
    ],
)
def test_losses_beyond_the_bound_are_a_fault_that_names_the_step(step, size, words):
    torch, tf = curves()
    tf[step] += size
    found = outcome.compare_losses(torch, tf, bound=0.05)
    with pytest.raises(FaceoffError, match=words) as error:
        outcome.require_lockstep(found, model="cnn", what="cnn")
    assert error.value.exit_code == 1
    assert error.value.details["lockstep"]["first_step_beyond_bound"] == step


def test_what_is_within_a_wide_bound_or_after_its_steps_is_reported_only():
    torch, tf = curves()
    tf[20] += 0.01
    tf[230] += 1.0
    found = outcome.compare_losses(torch, tf, bound=0.05)
    outcome.require_lockstep(found, model="cnn", what="cnn")
    assert found["first_step_apart"] == 20
    assert found["max_abs_loss_difference"] == pytest.approx(1.0, abs=1e-6)
    assert found["max_abs_loss_difference_in_bound_steps"] == pytest.approx(0.01, abs=1e-6)


def test_where_nothing_limits_the_steps_all_are_judged():
    torch, tf = curves()
    tf[230] += 1e-3
    bounds = jobs.from_args(train.parser().parse_args(["--model", "mlp", "--precision", "float64"])).loss_bounds
    found = outcome.compare_losses(torch, tf, **{**bounds, "bound": 1e-4, "early_bound": 1e-4})
    assert found["bound_steps"] == 250
    with pytest.raises(FaceoffError, match="at step 231 of 250"):
        outcome.require_lockstep(found, model="cnn", what="cnn")


def test_a_model_that_does_not_train_has_nothing_apart():
    found = outcome.compare_losses([], [], bound=1e-4)
    assert (found["max_abs_loss_difference"], found["bound_steps"]) == (0.0, 0)


def test_refused_trainings_leave_their_records_until_others_pass(tmp_path):
    """In float64 nothing is trained again, so that no framework is needed here."""
    job = jobs.from_args(train.parser().parse_args(["--model", "mlp", "--precision", "float64"]))
    trained, failed = tmp_path / "trained", tmp_path / "failed"
    losses = dict(zip(("torch", "tf"), curves(), strict=True))
    for name, values in losses.items():
        (trained / name).mkdir(parents=True)
        (trained / name / "record.json").write_text(json.dumps({"losses": values, "test_accuracy": 0.5}))
        weights.save(trained / name / "weights.npz", {"dense/bias": np.zeros(3, np.float32)})
    with pytest.raises(FaceoffError, match="at step 1 of 250") as caught, outcome.keeping_evidence(trained, failed):
        train.judge(job, trained)
    assert caught.value.details["evidence"] == str(failed)
    assert {name: outcome.read_record(failed, name)["losses"] for name in losses} == losses
    (trained / "tf" / "record.json").write_text(json.dumps({"losses": losses["torch"], "test_accuracy": 0.5}))
    with outcome.keeping_evidence(trained, failed):
        train.judge(job, trained)
    assert not failed.exists()


COMPARISONS = {
    "_train": lambda job, directory: study.run(job, num_seeds=2, directory=directory),
    "_run_all": lambda job, directory: modes.run(job, ["tf-function"], directory),
    "_measure": lambda job, directory: distributed.run(job, num_workers=2, directory=directory),
}


@pytest.mark.parametrize("first", COMPARISONS)
def test_a_comparison_says_first_that_it_replaces_an_earlier_record(tmp_path, monkeypatch, capsys, first):
    def train_something(*args):
        raise FaceoffError("training began")

    module = {"_train": study, "_run_all": modes, "_measure": distributed}[first]
    monkeypatch.setattr(module, first, train_something)
    monkeypatch.setattr(processes, "usable_cores", lambda: 2)
    job = jobs.from_args(train.parser().parse_args(["--model", "mlp"]))
    said = f"train: {tmp_path / 'record'} holds an earlier record; it will be replaced when this one succeeds"
    for there in (False, True):
        with pytest.raises(FaceoffError, match="training began"):
            COMPARISONS[first](job, tmp_path / "record")
        assert (said in capsys.readouterr().err) == there
        (tmp_path / "record").mkdir(exist_ok=True)


def test_what_is_kept_of_a_training_has_no_weights(tmp_path):
    source = tmp_path / "torch"
    (source / "tensorboard").mkdir(parents=True)
    for name in ("record.json", "weights.npz", "tensorboard/events.out.tfevents.1"):
        (source / name).write_text("{}")
    for _ in range(2):  # again replaces
        outcome.keep(source, tmp_path / "kept")
    kept = sorted(path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*") if path.is_file())
    assert kept == ["record.json", "tensorboard/events.out.tfevents.1"]
