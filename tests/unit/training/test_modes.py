import numpy as np
import pytest

from faceoff.errors import UsageError
from training import loop, modes, scalars


def record(framework, step_ms, *, losses=(2.0, 1.0, 0.5), logging_ms=()):
    return {
        "framework": framework,
        "version": "1",
        "threads": 2,
        "losses": list(losses),
        "step_ms": list(step_ms),
        "first_step_ms": step_ms[0],
        "evaluations": [[1, 0.5], [2, 0.96]],
        "logging_ms": list(logging_ms),
        "peak_rss_bytes": 1 << 28,
        "peak_gpu_bytes": None,
        "energy_j": None,
        "others_percent": 3.0,
        "import_s": 1.0,
        "test_accuracy": 0.97,
    }


def test_runs_are_interleaved_and_turned_round_every_time():
    order = [entry.name for entry in modes.schedule(["torch-compile", "tf-xla"], 4)]
    assert order == [
        *("torch-compile-0", "tf-xla-0", "tf-xla-1", "torch-compile-1"),
        *("torch-compile-2", "tf-xla-2", "tf-xla-3", "torch-compile-3"),
    ]
    positions = {name: [i for i, entry in enumerate(order) if entry.startswith(name)] for name in ("torch", "tf")}
    assert sum(positions["torch"]) == sum(positions["tf"])  # a steady drift hits both alike


def test_the_defaults_run_with_and_without_logs():
    names = [entry.name for entry in modes.schedule(modes.DEFAULT, 2)]
    assert names[:4] == ["torch-eager-0", "torch-eager-logged-0", "tf-function-0", "tf-function-logged-0"]
    assert len(set(names)) == len(names) == 8


def test_modes_are_named_checked_and_not_repeated():
    assert modes.parse([]) == ()
    assert modes.parse(["default"]) == modes.DEFAULT
    assert modes.parse(["all"]) == modes.MODES
    with pytest.raises(UsageError, match=r"unknown mode 'torch-jit'.*set MODES"):
        modes.parse(["torch-jit"])
    with pytest.raises(UsageError, match="each mode once"):
        modes.parse(["tf-xla", "tf-xla"])


def test_the_first_step_is_kept_apart_and_repeats_stay_visible():
    order = modes.schedule(modes.DEFAULT, 2)
    records = {
        entry.name: record("torch", [100.0 if "torch" in entry.name else 900.0, 10.0, 14.0], logging_ms=[0.5] * entry.logged)
        for entry in order
    }
    records["tf-function-0"]["others_percent"] = 40.0
    records["tf-function-1"]["losses"] = [2.0, 1.0, 0.5003]
    records["tf-function-logged-1"]["losses"] = [2.0, 1.03, 0.5]
    bounds = {"bound": 0.02, "early_bound": 0.02}
    found = modes.summarize(order, records, batch_size=64, target=0.95, bounds=bounds)
    torch, tf = found["modes"]
    assert (torch["mode"], tf["mode"]) == modes.DEFAULT
    assert torch["first_step_ms"] == [100.0, 100.0]
    assert tf["compile_ms"] == [888.0, 888.0]
    assert torch["step_ms"]["max"] == 14.0
    assert torch["examples_per_s"] == pytest.approx([64e3 / 12] * 2)
    assert torch["time_to_target_s"] == [0.11, 0.11]  # the first step counts
    assert torch["energy_j"] == [None, None]
    assert found["invalid_reasons"] == [
        "tf-function-0: others used 40% of the cores' time, limit 5%",
        "tf-function-logged-1: its losses leave the stated bound against torch-eager-0 at step 2: it trains another function",
    ]
    assert tf["max_abs_loss_difference"] == pytest.approx(3e-4)
    assert found["logging"][0]["write_ms"] == 0.5
    assert found["logging"][0]["cost_percent"] == pytest.approx(100 * 0.5 / 12)


def test_a_target_that_is_not_reached_has_no_time():
    assert loop.seconds_to(0.99, [1.0, 2.0], [(1, 0.5), (2, 0.9)]) is None


def test_the_loop_times_steps_only_and_counts_what_logging_costs(tmp_path):
    accuracies = iter([0.1, None])
    with scalars.log(tmp_path) as board:
        found = loop.run(
            lambda rows: float(rows.sum()),
            np.ones((4, 3)),
            label="x",
            num_steps=4,
            board=board,
            evaluate=lambda: next(accuracies),
            evaluate_every=2,
        )
    assert found.losses == [3.0] * 4
    assert found.others_percent >= 0
    assert found.evaluations == [(2, 0.1)]
    assert len(found.step_ms) == len(board.cost_ms) == 4
    assert any(tmp_path.glob("events.out.tfevents.*"))
