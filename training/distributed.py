"""Data parallelism on one machine: N workers with a share of the batch each against one worker with the whole batch.

Both frameworks go through the same lock-step training twice: once in one process (training.train_<framework>), once in
N processes that exchange gradients over loopback (torch: DistributedDataParallel on gloo or nccl; TensorFlow:
MultiWorkerMirroredStrategy with a step of our own, docs/decisions/0005-distributed-step.md). Every worker has the same
number of threads, so N workers use N times the cores of one: efficiency is t(1) / (N * t(N)) for the same global batch.

The gradients' mean over the workers is the gradient of the mean loss, so the losses must stay within the model's bound.
Batch normalization breaks that: each worker normalizes by its own share. For such a model the difference is reported and
not judged. Times during which others used the cores are INVALID, as those of training.modes are. Written to
results/<run>/training/<model>/distributed/, all of it or nothing: distributed.json and runs/<name>/record.json.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import environment, processes, progress
from faceoff.errors import UsageError
from training import outcome, ports, weights
from training.job import FRAMEWORKS, Job

TIMEOUT_S = 900.0
BATCH_NORM = "batch normalization normalizes by a worker's share of the batch, so N workers train another function than one"


def run(job: Job, *, num_workers: int, directory: Path) -> dict[str, Any]:
    """Train with one worker and with `num_workers` in both frameworks, write distributed.json; returns it in brief."""
    check(job, num_workers)
    job = job.with_threads(max(1, job.threads // num_workers))
    with outcome.replacing_record(directory) as kept:
        with tempfile.TemporaryDirectory(prefix=".plan-", dir=kept) as folder:
            plan = Path(folder)
            job.write_plan(plan)
            found = {framework: _measure(job, plan, framework, num_workers, kept) for framework in FRAMEWORKS}
            batch_norm = any(map(weights.is_statistic, weights.load(plan / "initial.npz")))
        judged = not batch_norm
        record = {
            **job.describe(),
            "num_workers": num_workers,
            "judged": judged,
            "not_judged_because": "" if judged else BATCH_NORM,
            "invalid_reasons": [reason for side in found.values() for reason in side["invalid_reasons"]],
            "frameworks": found,
            "environment": environment.record(),
        }
        (kept / "distributed.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    _show(record)
    if judged:
        for framework, side in found.items():
            what = f"{framework}, {num_workers} workers against one"
            outcome.require_lockstep(side["lockstep"], model=job.preset.name, what=what)
    brief = {f: {k: v for k, v in side.items() if k not in ("losses", "step_ms")} for f, side in found.items()}
    return {
        "record": str(directory / "distributed.json"),
        **{name: record[name] for name in ("num_workers", "judged", "not_judged_because", "invalid_reasons")},
        "frameworks": brief,
    }


def check(job: Job, num_workers: int) -> None:
    """Raise UsageError for what cannot be split evenly or has no mean over rows."""
    batch, cores = job.preset.training.batch_size, processes.usable_cores()
    if job.preset.loss != "cross_entropy":
        raise UsageError(
            f"model {job.preset.name!r} has loss {job.preset.loss}, whose mean is not the mean of the workers' means; "
            "expected a classifier (WORKERS=)"
        )
    if job.device == "cuda" and num_workers > len(environment.gpus()):
        raise UsageError(
            f"--workers {num_workers}: found {len(environment.gpus())} GPUs, expected one a worker (set WORKERS= or DEVICE=cpu)"
        )
    if num_workers < 2 or batch % num_workers or num_workers > cores:
        raise UsageError(
            f"--workers {num_workers}: expected 2 to {cores} (a core each), which a batch of {batch} divides by (set WORKERS=...)"
        )


def _measure(job: Job, plan: Path, framework: str, num_workers: int, directory: Path) -> dict[str, Any]:
    progress.say(f"train: {framework}, 1 worker with batches of {job.preset.training.batch_size}, {job.threads} threads")
    alone, together = f"{framework}-1-worker", f"{framework}-{num_workers}-workers"
    processes.run_stage(f"training.train_{framework}", "--plan", str(plan), "--name", alone, "--board", "off")
    progress.say(f"train: {framework}, {num_workers} workers with {job.preset.training.batch_size // num_workers} each")
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports.free(num_workers))
    shared = ("--plan", str(plan), "--name", together, "--addresses", addresses)
    stages = [(f"training.distributed_{framework}", (*shared, "--rank", str(rank))) for rank in range(num_workers)]
    # Side by side is what is measured here; a worker that fails takes the others with it.
    answers = processes.run_stages(stages, timeout_s=TIMEOUT_S)
    records = {name: outcome.read_record(plan, name) for name in (alone, together)}
    for name in records:
        outcome.keep(plan / name, directory / "runs" / name)
    times = {name: np.asarray(record["step_ms"][1:]) for name, record in records.items()}
    one, many = (float(np.median(times[name])) for name in (alone, together))
    return {
        "backend": answers[0]["backend"],
        "version": records[alone]["version"],
        "threads_per_worker": job.threads,
        "median_step_ms": {"1": one, str(num_workers): many},
        "first_step_ms": {"1": records[alone]["first_step_ms"], str(num_workers): records[together]["first_step_ms"]},
        "speedup": one / many,
        "efficiency": one / many / num_workers,
        "peak_rss_bytes": {"1": records[alone]["peak_rss_bytes"], str(num_workers): [a["peak_rss_bytes"] for a in answers]},
        "invalid_reasons": [reason for name, one in records.items() for reason in outcome.busy(name, one)],
        "lockstep": outcome.compare_losses(records[alone]["losses"], records[together]["losses"], **job.loss_bounds),
        "losses": {"1": records[alone]["losses"], str(num_workers): records[together]["losses"]},
        "step_ms": {"1": records[alone]["step_ms"], str(num_workers): records[together]["step_ms"]},
    }


def _show(record: dict[str, Any]) -> None:
    num = str(record["num_workers"])
    rows = [
        [
            framework,
            side["backend"],
            f"{side['median_step_ms']['1']:.2f}",
            f"{side['median_step_ms'][num]:.2f}",
            f"{100 * side['efficiency']:.0f}%",
            f"{side['lockstep']['max_abs_loss_difference']:.2g}",
        ]
        for framework, side in record["frameworks"].items()
    ]
    columns = ["framework", "backend", "1 worker, ms", f"{num} workers, ms", "efficiency", "losses apart"]
    progress.table(f"{num} workers against one, the same global batch", columns, rows)
    if record["invalid_reasons"]:
        progress.say(f"train: INVALID, these times are not to be believed: {'; '.join(record['invalid_reasons'])}")
    if not record["judged"]:
        progress.say(f"train: losses are not judged: {record['not_judged_because']}")
