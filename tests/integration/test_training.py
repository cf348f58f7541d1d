"""Both frameworks really train, in processes of their own, and what they leave behind is equal."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from faceoff import manifest
from faceoff.errors import FaceoffError
from tests.conftest import ROOT, roots
from training import outcome, train, weights


@pytest.fixture(scope="module")
def record(exported):
    return manifest.read(exported.model_dir("cnn"), stage="train", command="make train")


def test_the_weights_of_either_give_the_same_logits_in_both(record):
    for source in ("torch", "tf"):
        assert record.metrics["agreement"][source]["max_abs_logit_difference"] <= 1e-5
    assert record.metrics["served_accuracy"]["torch"] == record.metrics["served_accuracy"]["tf"]


def test_both_started_from_the_same_weights_and_learned(exported, record):
    losses = {}
    for framework in ("torch", "tf"):
        side = json.loads((exported.model_dir("cnn") / framework / "record.json").read_text())
        losses[framework] = side["losses"]
        assert len(side["losses"]) == len(side["step_ms"]) == record.metrics["num_steps"]
        assert side["losses"][-1] < 0.1 * side["losses"][0]
        assert side["test_accuracy"] > 0.9
        assert side["peak_rss_bytes"] > 50e6
        assert 95_000 < side["num_parameters"] < 110_000
    assert abs(losses["torch"][0] - losses["tf"][0]) < 1e-5
    assert record.metrics["max_abs_loss_difference"] == pytest.approx(np.abs(np.subtract(*losses.values())).max())


def test_the_checkpoints_are_the_frameworks_own(exported):
    directory = exported.model_dir("cnn")
    assert (directory / "torch" / "checkpoint.pt").exists()
    assert (directory / "tf" / "checkpoint.weights.h5").exists()
    served = weights.load(directory / "weights.npz")
    assert weights.digest(served) == weights.digest(weights.load(directory / "torch" / "weights.npz"))


APART = outcome.compare_losses([1.0], [1.0], bound=outcome.APART)


def test_models_that_do_not_agree_are_refused(exported, tmp_path):
    directory = tmp_path / "cnn"
    shutil.copytree(exported.model_dir("cnn"), directory, ignore=shutil.ignore_patterns("export"))
    path = directory / "tf" / "outputs_of_torch.npz"
    outputs = dict(np.load(path))
    outputs["test/logits"][3, 4] += 2e-5
    np.savez(path, **outputs)
    with pytest.raises(FaceoffError, match=r"do not give the same outputs in both frameworks: .*compare_layers --model cnn"):
        train.compare(directory, model="cnn", tolerance=1e-5, served="torch", apart=APART)


def test_tensorflows_weights_can_be_the_served_ones(exported, tmp_path):
    directory = tmp_path / "cnn"
    shutil.copytree(exported.model_dir("cnn"), directory, ignore=shutil.ignore_patterns("export"))
    train.compare(directory, model="cnn", tolerance=1e-5, served="tf", apart=APART)
    assert weights.digest(weights.load(directory / "weights.npz")) == weights.digest(
        weights.load(directory / "tf" / "weights.npz")
    )


TF32 = {
    "torch": "import torch.backends as b; tf32 = b.cuda.matmul.allow_tf32 or b.cudnn.allow_tf32",
    "tf": "import tensorflow as tf; tf32 = tf.config.experimental.tensor_float_32_execution_enabled()",
}


@pytest.mark.parametrize(("framework", "other"), [("torch", "tensorflow"), ("tf", "torch")])
def test_neither_process_loads_the_other_framework_nor_has_tf32(exported, tmp_path, framework, other):
    """Where the logits are computed; where it trains: test_lockstep.py."""
    plan = tmp_path / "plan"
    shutil.copytree(exported.model_dir("cnn"), plan, ignore=shutil.ignore_patterns("export"))
    code = (
        "import json, sys\n"
        f"from training.evaluate_{framework} import main\n"
        f"code = main(['--plan', {str(plan)!r}])\n"
        "loaded = sorted(name for name in sys.modules if '.' not in name)\n"
        f"{TF32[framework]}\n"
        "print(json.dumps([code, loaded, tf32]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    status, loaded, tf32 = json.loads(done.stdout.strip().splitlines()[-1])
    assert (status, tf32) == (0, False)
    assert other not in loaded
    assert {"torch": "torch", "tf": "tensorflow"}[framework] in loaded


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "resnet1"], "unknown model 'resnet1'"),
        (["--dataset", "mnist9"], "unknown data set 'mnist9'"),
        (["--weights", "jax"], "unknown weights 'jax'"),
        (["--profile", "huge"], "unknown profile 'huge'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_a_users_mistake_leaves_nothing_behind(run, tmp_path, options, words):
    done = run("training.train", *options, "--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r"))
    assert (done.code, done.result["status"]) == (2, "usage")
    assert words in done.result["error"]
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_fails_leaves_the_earlier_one(run, exported, tmp_path):
    store = type(exported)(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    shutil.copytree(exported.model_dir("cnn"), store.model_dir("cnn"))
    before = manifest.sha256(store.model_dir("cnn") / "manifest.json")
    done = run("training.train", *roots(store), env={"TF_XLA_FLAGS": "--no_such_flag=1"})
    assert done.code == 1
    assert manifest.sha256(store.model_dir("cnn") / "manifest.json") == before
    assert [path.name for path in store.artifacts.iterdir()] == ["cnn"]
