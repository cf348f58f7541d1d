"""training.train and training.all: an option that would do nothing is refused, before anything is trained."""

import json

import pytest

from faceoff import processes
from training import all as every
from training import board, compare_layers, study, train


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    for name in ("run_stage", "run_stages"):
        monkeypatch.setattr(processes, name, lambda *args, **more: pytest.fail("a training was started"))


def refused(capsys, tmp_path, *options: str) -> str:
    code = train.main(["--model", "mlp", *options, "--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r")])
    printed = capsys.readouterr()
    assert (code, len(printed.err.splitlines())) == (2, 1)
    assert list(tmp_path.iterdir()) == []
    return json.loads(printed.out)["error"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--train", "native", "--seeds", "0"], "expected an integer of at least 1, got 0"),
        (["--train", "native", "--seeds", "-1"], "expected an integer of at least 1, got -1"),
        (["--train", "native", "--seeds", "1"], "--seeds 1: expected at least 2"),
        (["--seeds", "0"], "expected an integer of at least 1, got 0"),
        (["--seeds", "3"], "--seeds 3: TRAIN=lockstep trains once, expected none"),
        (["--train", "native", "--weights", "tf"], "--weights tf: TRAIN=native serves no weights, expected none"),
        (["--weights", "jax"], "unknown weights 'jax'"),
        (["--run", "it's"], 'run name "it\'s"'),
    ],
)
def test_what_would_be_ignored_is_refused(capsys, tmp_path, options, words):
    assert words in refused(capsys, tmp_path, *options)


@pytest.mark.parametrize(("options", "seeds"), [([], 5), (["--seeds", "2"], 2)])
def test_the_number_of_seeds_is_five_or_what_is_said(capsys, tmp_path, monkeypatch, options, seeds):
    monkeypatch.setattr(study, "run", lambda job, *, num_seeds, directory: {"num_seeds": num_seeds})
    assert train.main(["--model", "cnn", "--train", "native", *options, "--results", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["num_seeds"] == seeds


@pytest.mark.parametrize(("options", "passed"), [([], []), (["--train", "native", "--seeds", "3"], ["--seeds", "3"])])
def test_all_passes_seeds_on_only_when_they_are_given(capsys, tmp_path, monkeypatch, options, passed):
    calls = []

    def run_stage(*command):
        calls.append(command)
        return {"report": "r.html"}

    monkeypatch.setattr(processes, "run_stage", run_stage)
    assert every.main(["--models", "cnn", *options, "--results", str(tmp_path)]) == 0
    command = list(calls[0])
    assert command[0] == "training.train"
    assert (command[command.index("--seeds") :][:2] if "--seeds" in command else []) == passed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--models", "cnn,bogus"], "unknown model 'bogus'"),
        (["--models", "cnn,cnn"], "--models=cnn,cnn: expected one or more different models"),
        (["--models", ""], "--models=: expected one or more different models"),
        (["--models", "cnn", "--train", "native", "--profile", "bogus"], "unknown profile 'bogus'"),
        (["--models", "cnn", "--precision", "fp8"], "unknown precision 'fp8'"),
        (["--models", "cnn", "--precision", "tf32", "--device", "cpu"], "expected an NVIDIA GPU"),
        (["--models", "cnn", "--device", "tpu"], "unknown device 'tpu'"),
        (["--models", "cnn", "--seeds", "3"], "--seeds 3: TRAIN=lockstep trains once"),
        (["--models", "cnn", "--train", "native", "--seeds", "1"], "--seeds 1: expected at least 2"),
    ],
)
def test_all_is_refused_before_its_first_model_is_trained(capsys, tmp_path, options, words):
    code = every.main([*options, "--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r")])
    printed = capsys.readouterr()
    assert (code, len(printed.err.splitlines())) == (2, 1)
    assert words in json.loads(printed.out)["error"]


def test_layers_are_compared_on_a_data_set_of_the_models(capsys):
    assert compare_layers.main(["--model", "cnn", "--dataset", "mnist1d"]) == 2
    printed = capsys.readouterr()
    assert "is not sized for data set 'mnist1d'" in json.loads(printed.out)["error"]
    assert len(printed.err.splitlines()) == 1


def test_a_port_of_tensorboard_is_a_port(capsys):
    assert board.main(["--port", "99999999"]) == 2
    assert "expected 1 to 65535" in json.loads(capsys.readouterr().out)["error"]
