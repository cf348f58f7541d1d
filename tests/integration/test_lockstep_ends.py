"""What no loss of a lock-step training reads: running statistics, and the precision of an evaluation."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from faceoff import processes
from faceoff.errors import FaceoffError
from tests.conftest import ROOT
from training import job as jobs
from training import train


@pytest.mark.parametrize("mistake", ["bn_momentum", "bn_variance"])
def test_running_statistics_that_differ_are_a_fault_although_no_loss_reads_them(exported, tmp_path, monkeypatch, mistake):
    directory = tmp_path / "cnn"
    shutil.copytree(exported.model_dir("cnn"), directory, ignore=shutil.ignore_patterns("export"))
    broken = {"training.train_torch": ("tests.fakes.broken_pairs", mistake)}
    run_stages = processes.run_stages
    monkeypatch.setattr(
        processes,
        "run_stages",
        lambda stages: run_stages([((found := broken.get(name, (name,)))[0], (*found[1:], *args)) for name, args in stages]),
    )
    with pytest.raises(FaceoffError, match=r"in float64: the losses agree and the trained weights do not: 'bn\d/moving_"):
        train.judge(jobs.from_args(train.parser().parse_args(["--model", "cnn"])), directory)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("framework", ["torch", "tf"])
def test_an_evaluation_has_the_precision_of_the_training(exported, tmp_path, framework, precision):
    """bfloat16 is the upper half of a float32: logits of a product in bf16 have nothing in the lower."""
    plan = tmp_path / "plan"
    shutil.copytree(exported.model_dir("cnn"), plan, ignore=shutil.ignore_patterns("export"))
    np.save(plan / "batches.npy", np.load(plan / "batches.npy")[:2])
    content = json.loads((plan / "plan.json").read_text())
    (plan / "plan.json").write_text(json.dumps({**content, "num_steps": 2, "precision": precision}))
    code = (
        "import json\n"
        "from faceoff import evaluation\n"
        f"from training.train_{framework} import main\n"
        "judged = []\n"
        "evaluation.accuracy = lambda loss, outputs, targets: judged.append(outputs)\n"
        f"code = main(['--plan', {str(plan)!r}, '--name', 'again', '--board', 'off'])\n"
        "(logits,) = judged\n"
        "print(json.dumps([code, str(logits.dtype), int((logits.view('uint32') & 0xFFFF).any())]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    status, dtype, finer = json.loads(done.stdout.strip().splitlines()[-1])
    assert (status, dtype) == (0, "float32")
    assert bool(finer) == (precision == "float32")
