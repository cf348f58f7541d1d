import numpy as np
import pytest

from faceoff import presets
from faceoff.errors import UsageError
from training import job as jobs
from training import study, train
from training.datasets import Rows


def records(accuracies):
    return [{"test_accuracy": value, "losses": [2.0, 1.0], "version": "1", "mode": "eager"} for value in accuracies]


def test_the_verdict_rests_on_every_seed():
    seeds = [20, 21, 22]
    close = {"torch": records([0.980, 0.981, 0.979]), "tf": records([0.981, 0.980, 0.979])}
    found = study.judge(close, seeds, margin=0.01, step=0.001)
    assert found["verdict"] == found["equivalence"]["verdict"] == "equivalent within 0.01"
    assert found["accuracy"]["tf"] == [0.981, 0.980, 0.979]
    assert found["equivalence"]["paired"] is False  # seed s of one framework has nothing in common with seed s of the other
    far = {"torch": records([0.980, 0.981, 0.979]), "tf": records([0.90, 0.901, 0.902])}
    assert study.judge(far, seeds, margin=0.01, step=0.001)["verdict"] == "different"
    wide = {"torch": records([0.95, 0.99, 0.97]), "tf": records([0.96, 0.98, 0.97])}
    assert study.judge(wide, seeds, margin=0.01, step=0.001)["verdict"] == "cannot tell: needs more seeds"


def test_the_same_count_of_every_seed_is_no_proof_where_one_answer_is_nearly_the_margin():
    same = {"torch": records([116 / 128] * 2), "tf": records([115 / 128] * 2)}
    assert study.judge(same, [20, 21], margin=0.01, step=1 / 128)["verdict"] == "cannot tell: needs more seeds"
    assert study.judge(same, [20, 21], margin=0.01, step=1e-4)["verdict"] == "equivalent within 0.01"


def test_what_is_counted_are_rows_or_tokens_and_one_of_them_must_be_within_the_margin():
    rows = Rows(inputs=(np.zeros((3, 4)),), targets=np.array([[1, 2, 0], [1, 0, 0], [3, 1, 2]]))
    assert study.num_answers(presets.model("seq2seq"), rows) == 6
    cnn = presets.model("cnn")
    assert study.num_answers(cnn, rows) == 3
    assert study.why_not(cnn, "quick", 100) == study.why_not(cnn, "quick") == ""
    assert study.why_not(cnn, "quick", 99) == "is tested on 99 answers, of which one is more than the margin of 0.01"


def test_a_test_set_too_small_is_said_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "num_answers", lambda preset, test: 64)
    job = jobs.from_args(train.parser().parse_args(["--model", "cnn", "--train", "native"]))
    with pytest.raises(UsageError, match="is tested on 64 answers"):
        study.run(job, num_seeds=2, directory=tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--train", "warp"], "unknown way to train 'warp'"),
        (["--train", "native", "--seeds", "1"], "expected at least 2"),
        (["--train", "native", "--modes", "default"], "expected no MODES or WORKERS"),
        (["--optimizer", "lion"], "unknown optimizer 'lion'"),
        (["--precision", "fp8"], "unknown precision 'fp8'"),
        (["--precision", "tf32", "--device", "cpu"], "expected an NVIDIA GPU"),
        (["--modes", "torch-jit"], "unknown mode 'torch-jit'"),
        (
            ["--modes", "default", "--model", "resnet50"],
            "'resnet50' takes 2 training steps in profile quick: expected at least 3",
        ),
        (["--workers", "3000"], "a core each"),
        (["--workers", "0"], "expected an integer of at least 1"),
        (["--run", "../up"], "run name"),
    ],
)
def test_a_mistake_is_said_before_anything_starts(options, words, tmp_path, capsys):
    code = train.main([*options, "--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r")])
    captured = capsys.readouterr()
    assert code == 2
    assert words in captured.out
    assert len(captured.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
