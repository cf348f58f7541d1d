"""Equal optimizers, native studies, data parallelism and logs, as the processes a user runs."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from faceoff import processes
from faceoff.errors import FaceoffError, StageError
from tests.conftest import ROOT, roots, run_module
from training import distributed, modes, outcome, ports, rounding, study, train
from training import job as jobs
from training.job import BF16_BOUND, FLOAT64_BOUND
from training.optimizers import BETAS, EPSILON_HAT, WEIGHT_DECAY

OPTIMIZERS = ("sgd", "adam", "adamw")
NUM_STEPS, ROWS, COLUMNS = 60, 6, 5

# Applies given gradients with every optimizer; `table`'s gradient is what an embedding's is: rows, one of them twice.
APPLY = {
    "torch": """
import torch
from training import optim_torch as optim
def apply(recipe, start, gradients, rows):
    dense, table = (torch.nn.Parameter(torch.from_numpy(start.copy())) for _ in range(2))
    frozen = torch.nn.Parameter(torch.from_numpy(start.copy()), requires_grad=False)
    optimizer = optim.build(recipe, [dense, table, frozen])
    for gradient, row in zip(gradients, rows):
        optimizer.zero_grad()
        picked = table[torch.from_numpy(row)]
        ((dense * torch.from_numpy(gradient)).sum() + (picked * torch.from_numpy(gradient[: len(row)])).sum()).backward()
        optim.apply(optimizer)
    assert (frozen.detach().numpy() == start).all()
    return [dense.detach().numpy(), table.detach().numpy()]
""",
    "tf": """
import tensorflow as tf, keras
from training import optim_tf as optim
def apply(recipe, start, gradients, rows):
    dense, table = keras.Variable(start), keras.Variable(start)
    optimizer = optim.build(recipe, [dense, table])
    for gradient, row in zip(gradients, rows):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(dense * gradient) + tf.reduce_sum(tf.gather(table.value, row) * gradient[: len(row)])
        found = tape.gradient(loss, [dense.value, table.value])
        assert isinstance(found[1], tf.IndexedSlices)
        optim.apply(optimizer, found, [dense, table], equal=recipe.equal)
    return [dense.numpy(), table.numpy()]
""",
}


def inputs():
    rng = np.random.default_rng(3)
    start = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    # From large to far below epsilon, where its two readings differ most.
    sizes = 10.0 ** rng.integers(-9, 1, (NUM_STEPS, 1, COLUMNS))
    gradients = (rng.normal(size=(NUM_STEPS, ROWS, COLUMNS)) * sizes).astype(np.float32)
    rows = rng.integers(0, ROWS, (NUM_STEPS, 3))
    rows[:, 2] = rows[:, 0]
    return start, gradients, rows


def expected(name, start, gradients, rate):
    """The update of `dense` in float64 from the papers' formulas, epsilon beside the uncorrected root."""
    x, m, v = start.astype(np.float64), 0.0, 0.0
    for step, gradient in enumerate(gradients.astype(np.float64), 1):
        if name == "sgd":
            m = BETAS[0] * m + gradient
            x = x - rate * m
            continue
        if name == "adamw":
            x = x - rate * WEIGHT_DECAY * x
        m, v = BETAS[0] * m + (1 - BETAS[0]) * gradient, BETAS[1] * v + (1 - BETAS[1]) * gradient**2
        x = x - rate * np.sqrt(1 - BETAS[1] ** step) / (1 - BETAS[0] ** step) * m / (np.sqrt(v) + EPSILON_HAT)
    return x


@pytest.fixture(scope="module")
def updated(tmp_path_factory):
    """What each optimizer of each framework made of the same gradients, in a process of its own."""
    directory = tmp_path_factory.mktemp("optimizers")
    start, gradients, rows = inputs()
    np.savez(directory / "inputs.npz", start=start, gradients=gradients, rows=rows)
    found = {}
    for framework, apply in APPLY.items():
        code = (
            f"{apply}\nimport numpy as np\nfrom training.optimizers import Recipe\n"
            f"data = np.load({str(directory / 'inputs.npz')!r})\n"
            f"for name in {OPTIMIZERS!r}:\n"
            "    for equal in (True, False):\n"
            "        recipe = Recipe(name=name, learning_rate=0.01, equal=equal)\n"
            "        arrays = apply(recipe, data['start'], data['gradients'], data['rows'])\n"
            f"        np.savez({str(directory)!r} + f'/{framework}-{{name}}-{{equal}}.npz', dense=arrays[0], table=arrays[1])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        for name in OPTIMIZERS:
            for equal in (True, False):
                found[framework, name, equal] = dict(np.load(directory / f"{framework}-{name}-{equal}.npz"))
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_equal_optimizer_makes_the_same_update_in_both(updated, name):
    for variable in ("dense", "table"):
        apart = np.abs(updated["torch", name, True][variable] - updated["tf", name, True][variable]).max()
        assert apart < 6e-6, variable  # float32 rounds values around 2 by 2e-7 in each of 60 steps


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_and_it_is_the_papers(updated, name):
    start, gradients, _ = inputs()
    wanted = expected(name, start, gradients, 0.01)
    for framework in APPLY:
        assert updated[framework, name, True]["dense"] == pytest.approx(wanted, abs=5e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_without_the_fixes_they_part(updated, name):
    """Or the fixes would be proven by nothing."""
    for variable in ("dense", "table"):
        apart = np.abs(updated["torch", name, False][variable] - updated["tf", name, False][variable]).max()
        assert apart > 1e-3, variable


def short_plan(exported, tmp_path, **changes):
    """The plan of `cnn` with 20 steps and one thread, or other `changes`."""
    plan = tmp_path / "plan"
    shutil.copytree(exported.model_dir("cnn"), plan, ignore=shutil.ignore_patterns("export"))
    np.save(plan / "batches.npy", np.load(plan / "batches.npy")[:20])
    content = json.loads((plan / "plan.json").read_text())
    (plan / "plan.json").write_text(json.dumps({**content, "num_steps": 20, "threads": 1, **changes}))
    return plan


def train_again(plan, framework, *options):
    """Train by the plan in a process that says which modules it loaded; with the logs on, which want torch (training.scalars)."""
    code = (
        "import json, sys\n"
        f"from training.train_{framework} import main\n"
        f"code = main(['--plan', {str(plan)!r}, '--name', 'again', *{options!r}])\n"
        "print(json.dumps([code, sorted(name for name in sys.modules if '.' not in name)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    status, loaded = json.loads(done.stdout.strip().splitlines()[-1])
    assert status == 0
    return loaded, outcome.read_record(plan, "again")


@pytest.fixture(scope="module")
def in_float64(exported, tmp_path_factory):
    """What either framework loaded, and its record, of the same steps in float64, evaluated on the way."""
    plans = {f: short_plan(exported, tmp_path_factory.mktemp(f), precision="float64") for f in ("torch", "tf")}
    return {framework: train_again(plan, framework, "--evaluate-every", "10") for framework, plan in plans.items()}


def test_in_float64_nothing_parts_the_frameworks(in_float64):
    """Whatever kinks a model has: no rounding is large enough to cross one."""
    records = {framework: record for framework, (_, record) in in_float64.items()}
    found = outcome.compare_losses(records["torch"]["losses"], records["tf"]["losses"], bound=FLOAT64_BOUND)
    assert found["max_abs_loss_difference"] <= FLOAT64_BOUND
    assert records["torch"]["evaluations"] == records["tf"]["evaluations"]
    assert len(records["tf"]["evaluations"]) == 2


def test_native_training_ends_in_a_verdict(tmp_path):
    store = ("--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r"))
    done = run_module("training.train", "--model", "mlp", "--train", "native", "--seeds", "2", "--run", "study", *store)
    assert done.code == 0, done.stderr[-3000:]
    directory = tmp_path / "r" / "study" / "training" / "mlp" / "study"
    study = json.loads((directory / "study.json").read_text())
    assert study["verdict"] == done.result["verdict"]
    assert study["verdict"].split()[0] in {"equivalent", "different", "cannot"}
    assert all(0.9 < value <= 1 for values in study["accuracy"].values() for value in values)
    records = {path.parent.name: json.loads(path.read_text()) for path in directory.glob("runs/*/record.json")}
    assert set(records) == {f"{framework}-seed-{seed}" for framework in ("torch", "tf") for seed in study["seeds"]}
    firsts = [record["losses"][0] for record in records.values()]
    assert len(set(firsts)) == len(firsts)  # nobody shares weights or batches
    # Two train side by side, so that no time of theirs means anything.
    assert not any(record["step_ms"] or record["logging_ms"] for record in records.values())
    assert {record[name] for record in records.values() for name in ("import_s", "training_s", "first_step_ms")} == {None}
    assert not (tmp_path / "a").exists()  # the artifact is not the study's to replace
    assert [path for path in directory.iterdir() if path.name.startswith(".")] == []


COMPARED = {
    "study": lambda job, directory: study.run(job, num_seeds=2, directory=directory),
    "modes": lambda job, directory: modes.run(job, ["tf-function"], directory),
    "distributed": lambda job, directory: distributed.run(job, num_workers=2, directory=directory),
}


@pytest.mark.parametrize("kind", ["study", "modes", pytest.param("distributed", marks=pytest.mark.slow)])
def test_what_fails_on_its_way_leaves_the_earlier_result_whole(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("TF_XLA_FLAGS", "--no_such_flag=1")
    directory = tmp_path / kind
    earlier = {"study.json": "{}", "runs/torch-seed-20/record.json": "earlier"}
    for name, text in earlier.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    job = jobs.from_args(train.parser().parse_args(["--model", "mlp"]))
    with pytest.raises(StageError):
        COMPARED[kind](job, directory)
    assert {str(p.relative_to(directory)): p.read_text() for p in directory.rglob("*") if p.is_file()} == earlier
    assert list(tmp_path.iterdir()) == [directory]


@pytest.mark.slow
def test_two_trainings_that_are_not_equal_leave_their_curves(tmp_path):
    """At this rate nothing is a number: not equal to anything."""
    store = ("--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r"))
    done = run_module("training.train", "--model", "mlp", "--learning-rate", "1e6", *store)
    assert (done.code, done.result["status"]) == (1, "fault"), done.stderr[-3000:]
    failed = tmp_path / "r" / "training" / "training" / "mlp" / "failed"
    assert done.result["evidence"] == str(failed)
    assert str(failed) in done.stderr
    kept = {str(path.parent.relative_to(failed)): json.loads(path.read_text()) for path in failed.rglob("record.json")}
    assert set(kept) >= {"torch", "tf"}
    assert all(len(record["losses"]) == 200 for record in kept.values())
    assert list((tmp_path / "a").iterdir()) == []
    assert run_module("training.train", "--model", "mlp", *store).code == 0
    assert not failed.exists()


def test_a_pair_whose_losses_part_is_a_fault_that_names_the_step(exported, tmp_path):
    directory = exported.model_dir("cnn")
    losses = {framework: outcome.read_record(directory, framework)["losses"] for framework in ("torch", "tf")}
    losses["tf"][1] += 0.001
    found = outcome.compare_losses(losses["torch"], losses["tf"], bound=0.02)
    with pytest.raises(FaceoffError, match="at step 2 of 200"):
        outcome.require_lockstep(found, model="cnn", what="cnn")


def test_the_logs_of_both_have_the_same_tags(exported):
    code = (
        "import json, sys\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "found = {}\n"
        "for framework in ('torch', 'tf'):\n"
        "    events = EventAccumulator(sys.argv[1] + f'/{framework}/tensorboard', size_guidance={'scalars': 0})\n"
        "    events.Reload()\n"
        "    found[framework] = {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}\n"
        "print(json.dumps(found))\n"
    )
    directory = exported.model_dir("cnn")
    done = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(found["torch"]) == set(found["tf"]) == {"loss", "step_ms"}
    for framework in ("torch", "tf"):
        assert found[framework]["loss"] == pytest.approx(outcome.read_record(directory, framework)["losses"], rel=1e-6)


def test_tensorboard_opens_on_loopback_and_ends(exported):
    done = run_module("training.board", "--for-s", "0", *roots(exported))
    assert done.code == 0, done.stderr[-3000:]
    assert done.result["url"].startswith("http://127.0.0.1:")
    assert {"torch/tensorboard", "tf/tensorboard"} <= set(done.result["runs"])


def test_without_logs_the_command_that_makes_them_is_named(tmp_path):
    done = run_module("training.board", "--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r"))
    assert (done.code, done.result["status"]) == (2, "usage")
    assert "run: make train MODEL=cnn" in done.result["error"]


@pytest.mark.parametrize(("framework", "other"), [("torch", "tensorflow"), ("tf", "torch")])
def test_no_training_process_loads_the_other_framework(exported, in_float64, tmp_path, framework, other):
    natively, _ = train_again(short_plan(exported, tmp_path), framework, "--native-seed", "3")
    for loaded in (natively, in_float64[framework][0]):
        assert other not in loaded
        assert "tensorboardX" in loaded


@pytest.mark.parametrize(("framework", "other"), [("torch", "tensorflow"), ("tf", "torch")])
def test_a_worker_alone_is_the_plain_training(exported, tmp_path, framework, other):
    """Without anybody to exchange with, data parallel changes nothing; and the other framework stays out."""
    plan = short_plan(exported, tmp_path)
    code = (
        "import json, sys\n"
        f"from training.distributed_{framework} import main\n"
        f"options = ['--addresses', '127.0.0.1:{ports.free(1)[0]}', '--rank', '0']\n"
        f"code = main(['--plan', {str(plan)!r}, '--name', 'alone', *options])\n"
        "print(json.dumps([code, sorted(name for name in sys.modules if '.' not in name)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    status, loaded = json.loads(done.stdout.strip().splitlines()[-1])
    assert status == 0
    assert other not in loaded
    losses = outcome.read_record(plan, "alone")["losses"]
    assert losses == pytest.approx(outcome.read_record(plan, framework)["losses"][:20], abs=0.02)
    assert losses[:3] == pytest.approx(outcome.read_record(plan, framework)["losses"][:3], abs=1e-5)


@pytest.mark.slow
def test_float64_tells_rounding_from_a_difference_of_method(exported, tmp_path):
    directory = tmp_path / "cnn"
    shutil.copytree(exported.model_dir("cnn"), directory, ignore=shutil.ignore_patterns("export"))
    job = jobs.from_args(train.parser().parse_args(["--model", "cnn"]))
    found = rounding.in_float64(job, directory, job.num_steps)
    assert found["max_abs_loss_difference"] <= found["bound"] == FLOAT64_BOUND
    assert found["bound_steps"] == job.num_steps
    assert all(FLOAT64_BOUND < noise < 0.1 for noise in found["float32_noise"].values())
    assert [path for path in directory.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_modes_are_compared_from_equal_weights(tmp_path):
    store = ("--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r"))
    done = run_module("training.train", "--modes", "default", "--run", "modes", *store, timeout_s=600)
    record = json.loads((tmp_path / "r" / "modes" / "training" / "cnn" / "modes" / "modes.json").read_text())
    # Whether the machine was quiet enough is not this test's to say.
    assert (done.code, done.result["status"]) == ((3, "invalid") if record["invalid_reasons"] else (0, "ok")), done.stderr[-3000:]
    assert not [reason for reason in record["invalid_reasons"] if "losses" in reason]
    assert record["order"][0] == "torch-eager-0"
    assert record["order"][-1] == "torch-eager-1"
    for mode in record["modes"]:
        assert mode["threads"] == [record["threads"]] * 2  # what each process found, not what it was told
        assert mode["max_abs_loss_difference"] < 0.02
        assert len(mode["runs"]) == len(mode["first_step_ms"]) == 2
        assert all(value is None for value in mode["energy_j"]) or record["device"] == "cuda"
    assert {cost["mode"] for cost in record["logging"]} == {"torch-eager", "tf-function"}


@pytest.mark.slow
def test_compiled_modes_train_the_same_function(tmp_path):
    store = ("--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r"))
    chosen = "torch-compile,tf-xla"
    done = run_module("training.train", "--model", "mlp", "--modes", chosen, "--run", "modes", *store, timeout_s=600)
    assert done.code in {0, 3}, done.stderr[-3000:]
    record = json.loads((tmp_path / "r" / "modes" / "training" / "mlp" / "modes" / "modes.json").read_text())
    assert [mode["mode"] for mode in record["modes"]] == chosen.split(",")
    assert all(mode["max_abs_loss_difference"] <= 1e-4 for mode in record["modes"])
    assert not [reason for reason in record["invalid_reasons"] if "losses" in reason]


@pytest.mark.slow
def test_bf16_is_coarser_than_float32_on_both_sides_alike(tmp_path):
    losses = {}
    for precision in ("float32", "bf16"):
        store = ("--artifacts", str(tmp_path / precision), "--results", str(tmp_path / "r"))
        done = run_module("training.train", "--model", "mlp", "--precision", precision, *store)
        assert done.code == 0, done.stderr[-3000:]  # bf16 has its own bound
        for framework in ("torch", "tf"):
            losses[framework, precision] = outcome.read_record(tmp_path / precision / "mlp", framework)["losses"]
    for framework in ("torch", "tf"):
        apart = np.abs(np.subtract(losses[framework, "float32"], losses[framework, "bf16"])).max()
        assert 1e-3 < apart < BF16_BOUND, framework


@pytest.mark.slow
@pytest.mark.skipif(processes.usable_cores() < 2, reason="two workers need two cores")
def test_two_workers_with_half_the_batch_are_one_with_all_of_it(tmp_path):
    store = ("--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r"))
    options = ("--model", "mlp", "--workers", "2", "--run", "two")
    done = run_module("training.train", *options, *store, timeout_s=600)
    record = json.loads((tmp_path / "r" / "two" / "training" / "mlp" / "distributed" / "distributed.json").read_text())
    # Whether the machine was quiet enough is not this test's to say.
    assert (done.code, done.result["status"]) == ((3, "invalid") if record["invalid_reasons"] else (0, "ok")), done.stderr[-3000:]
    assert record["judged"] is True
    for side in record["frameworks"].values():
        assert side["lockstep"]["max_abs_loss_difference"] <= 1e-4
        assert side["efficiency"] > 0
