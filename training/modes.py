"""Training compared: the same lock-step training in several modes of both frameworks, each run in its own process.

| mode          | what it is                                                          |
|---------------|---------------------------------------------------------------------|
| torch-eager   | PyTorch as it stands                                                |
| torch-compile | forward and backward by torch.compile                               |
| tf-function   | the whole step as a tf.function                                     |
| tf-eager      | TensorFlow operation by operation                                   |
| tf-xla        | tf.function(jit_compile=True)                                       |

Runs are ordered A B B A A B …, so that a drift of the machine hits all modes alike. The first two modes are run with
and without TensorBoard logs, which says what logging costs. Written to results/<run>/training/<model>/modes/, all of it
or nothing: modes.json and runs/<mode>-<repeat>/record.json.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import environment, processes, progress, stats
from faceoff.errors import UsageError, unknown
from training import loop, outcome
from training.job import Job

MODES = ("torch-eager", "torch-compile", "tf-function", "tf-eager", "tf-xla")
DEFAULT = ("torch-eager", "tf-function")
MIN_STEPS = 3  # the first is kept apart, and one value is no distribution
REPEATS = {"quick": 2, "full": 6}
NUM_EVALUATIONS = 15  # of the test accuracy, on the way


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run of the schedule."""

    mode: str
    logged: bool
    repeat: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.mode}{'-logged' if self.logged else ''}-{self.repeat}"


def parse(names: Sequence[str]) -> tuple[str, ...]:
    """`--modes` as modes: names, `default`, or `all`. Raises UsageError for what nobody knows or is there twice."""
    if not names:
        return ()
    if list(names) == ["default"]:
        return DEFAULT
    if list(names) == ["all"]:
        return MODES
    for name in names:
        if name not in MODES:
            raise unknown("mode", name, [*MODES, "default", "all"], "MODES")
    if len(set(names)) != len(names):
        raise UsageError(f"--modes {','.join(names)}: expected each mode once (set MODES=...)")
    return tuple(names)


def schedule(modes: Sequence[str], repeats: int) -> list[Entry]:
    """A B B A A B …; the defaults among `modes` also with logs."""
    variants = [(mode, logged) for mode in modes for logged in ((False, True) if mode in DEFAULT else (False,))]
    rounds = [variants if repeat % 2 == 0 else variants[::-1] for repeat in range(repeats)]
    return [Entry(mode=m, logged=logged, repeat=r) for r, entries in enumerate(rounds) for m, logged in entries]


def check(job: Job) -> None:
    """Raise UsageError for a training too short to compare."""
    if job.num_steps < MIN_STEPS:
        raise UsageError(
            f"model {job.preset.name!r} takes {job.num_steps} training steps in profile {job.profile}: "
            f"expected at least {MIN_STEPS} to compare modes (set PROFILE=... or leave MODES out)"
        )


def run(job: Job, modes: Sequence[str], directory: Path) -> dict[str, Any]:
    """Run the schedule and write modes.json; returns what goes on the JSON line."""
    check(job)
    repeats, about = REPEATS.get(job.profile, 2), job.preset.training
    order = schedule(modes, repeats)
    with outcome.replacing_record(directory) as kept:
        records = _run_all(job, order, kept)
        record = {
            **job.describe(),
            "repeats": repeats,
            "order": [entry.name for entry in order],
            "target_accuracy": about.target_accuracy,
            **summarize(order, records, batch_size=about.batch_size, target=about.target_accuracy, bounds=job.loss_bounds),
            "environment": environment.record(),
        }
        (kept / "modes.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    _show(record)
    brief = [{name: value for name, value in mode.items() if name != "runs"} for mode in record["modes"]]
    return {
        "record": str(directory / "modes.json"),
        "order": record["order"],
        "modes": brief,
        "logging": record["logging"],
        "invalid_reasons": record["invalid_reasons"],
    }


def summarize(
    order: Sequence[Entry],
    records: dict[str, dict[str, Any]],
    *,
    batch_size: int,
    target: float | None,
    bounds: dict[str, Any],
) -> dict[str, Any]:
    """Every mode's distributions over its repeats, the cost of logging, and how far the losses of the modes are apart.

    `bounds` are training.job's: a mode whose losses leave them trains another function, and its speed says nothing.
    """
    modes = list(dict.fromkeys(entry.mode for entry in order))
    first = np.asarray(records[order[0].name]["losses"])
    plain = {mode: [records[e.name] for e in order if e.mode == mode and not e.logged] for mode in modes}
    logged = {mode: [records[e.name] for e in order if e.mode == mode and e.logged] for mode in modes}
    return {
        "modes": [_mode(mode, plain[mode], first, batch_size, target) for mode in modes],
        "logging": [_logging(mode, plain[mode], logged[mode]) for mode in modes if logged[mode]],
        "invalid_reasons": [reason for entry in order for reason in _reasons(entry.name, records, order[0].name, bounds)],
    }


def _reasons(name: str, records: dict[str, dict[str, Any]], first: str, bounds: dict[str, Any]) -> list[str]:
    """Why one run is not to be believed: a busy machine, or losses that are not those of the run called `first`."""
    apart = outcome.compare_losses(records[first]["losses"], records[name]["losses"], **bounds)
    step = apart["first_step_beyond_bound"]
    parted = f"{name}: its losses leave the stated bound against {first} at step {(step or 0) + 1}: it trains another function"
    return [*outcome.busy(name, records[name]), *([] if step is None else [parted])]


def _run_all(job: Job, order: Sequence[Entry], directory: Path) -> dict[str, dict[str, Any]]:
    """The record of every entry, by its name; each is kept in `directory`/runs/."""
    records: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix=".plan-", dir=directory) as folder:
        plan = Path(folder)
        job.write_plan(plan)
        for number, entry in enumerate(order, 1):
            progress.say(f"train: {number} of {len(order)}: {entry.name}, {job.num_steps} steps")
            records[entry.name] = _run(plan, entry, max(1, job.num_steps // NUM_EVALUATIONS))
            outcome.keep(plan / entry.name, directory / "runs" / entry.name)
            shutil.rmtree(plan / entry.name)  # weights
    return records


def _run(plan: Path, entry: Entry, evaluate_every: int) -> dict[str, Any]:
    framework, _, mode = entry.mode.partition("-")
    options = ("--plan", str(plan), "--name", entry.name, "--mode", mode, "--evaluate-every", str(evaluate_every))
    processes.run_stage(f"training.train_{framework}", *options, "--board", "on" if entry.logged else "off")
    return outcome.read_record(plan, entry.name)


def _mode(mode: str, runs: list[dict[str, Any]], first: np.ndarray, batch_size: int, target: float | None) -> dict[str, Any]:
    later = [np.asarray(run["step_ms"][1:]) for run in runs]  # the first step compiles and is kept apart
    pooled = np.concatenate(later)
    return {
        "mode": mode,
        "framework": runs[0]["framework"],
        "version": runs[0]["version"],
        "threads": [run["threads"] for run in runs],
        "first_step_ms": [run["first_step_ms"] for run in runs],
        # Tracing, compiling and first allocations: what the first step takes more than the median of the others.
        "compile_ms": [max(0.0, run["first_step_ms"] - float(np.median(times))) for run, times in zip(runs, later, strict=True)],
        "step_ms": stats.summary(pooled),
        "ci95_ms": stats.intervals(pooled),
        "median_step_ms": [float(np.median(times)) for times in later],
        "examples_per_s": [float(batch_size * 1e3 / times.mean()) for times in later],
        "time_to_target_s": [
            loop.seconds_to(target, run["step_ms"], run["evaluations"]) if target is not None else None for run in runs
        ],
        "peak_rss_bytes": [run["peak_rss_bytes"] for run in runs],
        "peak_gpu_bytes": [run["peak_gpu_bytes"] for run in runs],
        "energy_j": [run["energy_j"] for run in runs],
        "others_percent": [run["others_percent"] for run in runs],
        "import_s": [run["import_s"] for run in runs],
        "test_accuracy": [run["test_accuracy"] for run in runs],
        "max_abs_loss_difference": float(max(np.abs(np.asarray(run["losses"]) - first).max() for run in runs)),
        "runs": [{name: run[name] for name in ("losses", "step_ms", "evaluations")} for run in runs],
    }


def _logging(mode: str, plain: list[dict[str, Any]], logged: list[dict[str, Any]]) -> dict[str, Any]:
    """Step times with and without; `write_ms` is the writer's own call, which is outside the step's time."""
    without, written = (float(np.median(np.concatenate([run["step_ms"][1:] for run in runs]))) for runs in (plain, logged))
    write = float(np.mean(np.concatenate([run["logging_ms"] for run in logged])))
    return {
        "mode": mode,
        "median_step_ms_without": without,
        "median_step_ms_with": written,
        "write_ms": write,
        "cost_percent": 100.0 * (written + write - without) / without,
    }


def _show(record: dict[str, Any]) -> None:
    rows = []
    for mode in record["modes"]:
        reached = [value for value in mode["time_to_target_s"] if value is not None]
        rows.append(
            [
                mode["mode"],
                f"{np.median(mode['first_step_ms']):.0f}",
                f"{mode['step_ms']['p50']:.2f}",
                f"{mode['step_ms']['p99']:.2f}",
                f"{np.mean(mode['examples_per_s']):.0f}",
                f"{np.mean(reached):.2f}" if reached else "-" if record["target_accuracy"] is None else "not reached",
                f"{max(mode['peak_rss_bytes']) / 2**20:.0f}",
                f"{mode['max_abs_loss_difference']:.2g}",
            ]
        )
    columns = ["mode", "first step ms", "p50 ms", "p99 ms", "examples/s", "s to target", "peak RSS MiB", "loss apart"]
    progress.table(f"Training in modes, {record['repeats']} repeats each, {record['threads']} threads", columns, rows)
    if record["invalid_reasons"]:
        progress.say(f"train: INVALID, these times are not to be believed: {'; '.join(record['invalid_reasons'])}")
    for cost in record["logging"]:
        progress.say(
            f"train: TensorBoard logs in {cost['mode']}: {cost['write_ms']:.2f} ms a step to write, "
            f"median step {cost['median_step_ms_without']:.2f} ms without and {cost['median_step_ms_with']:.2f} ms with"
        )
