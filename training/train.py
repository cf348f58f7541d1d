"""Train one architecture in both frameworks from the same weights and batches, and prove them equal.

`python -m training.train --model cnn --dataset digits` trains in lock-step: one optimizer with the differences between
the frameworks taken out, so that the losses stay within the model's bound. It writes artifacts/<model>/:

    plan.json data.npz batches.npy initial.npz   what both sides were given
    torch/ tf/                                   checkpoint, weights.npz, record.json, tensorboard/, logits of both weights
    weights.npz golden/                          the set of weights that is served, and what it must answer
    manifest.json                                written last

`--modes default` then compares the speed of modes (training.modes) and `--workers 2` trains data-parallel
(training.distributed). `--train native` lets each framework go its own way for several seeds and tests whether they
are equally accurate (training.study). Each writes a folder of its own in results/<run>/training/<model>/: modes/,
distributed/, study/, and with `--run` lockstep/ too. A lock-step training that is refused leaves failed/ there.

Each framework trains in a process of its own; in lock-step one after the other, so that time and memory mean something.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from faceoff import cli, evaluation, golden, manifest, presets, processes, progress
from faceoff.errors import FaceoffError, InvalidError, UsageError, unknown
from faceoff.store import Store, replacing_directory, write_atomic
from training import distributed, ends, modes, outcome, rounding, study, weights
from training import job as jobs
from training import plan as plans
from training.job import FRAMEWORKS, Job

NUM_SEEDS = 5
KEPT = ("version", "mode", "import_s", "first_step_ms", "step_ms", "peak_rss_bytes", "others_percent", "test_accuracy")


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Do what `--train` says, then what `--modes` and `--workers` add; returns the JSON line.

    Raises InvalidError, when all is written, for times that were compared and are not to be believed.
    """
    jobs.check_kind(args.train, args.seeds)
    if args.weights and args.weights not in FRAMEWORKS:
        raise unknown("weights", args.weights, list(FRAMEWORKS), "WEIGHTS")
    chosen = modes.parse(args.modes)
    results = cli.store(args).run_dir(args.run or "training") / "training" / args.model
    if args.train == "native" and (chosen or args.workers > 1):
        raise UsageError("TRAIN=native: expected no MODES or WORKERS, which compare equal trainings; use TRAIN=lockstep")
    if args.train == "native" and args.weights:
        raise UsageError(f"--weights {args.weights}: TRAIN=native serves no weights, expected none; use TRAIN=lockstep")
    job = jobs.from_args(args)
    if args.train == "native":
        return study.run(job, num_seeds=args.seeds or NUM_SEEDS, directory=results / "study")
    if chosen:
        modes.check(job)
    if args.workers > 1:
        distributed.check(job, args.workers)
    done = lockstep(job, cli.store(args), served=args.weights or FRAMEWORKS[0], evidence=results / "failed")
    if args.run:
        keep_lockstep(cli.store(args).model_dir(job.preset.name), results / "lockstep")
    compared = {}
    if chosen:
        compared["comparison"] = modes.run(job, chosen, results / "modes")
    if args.workers > 1:
        compared["distributed"] = distributed.run(job, num_workers=args.workers, directory=results / "distributed")
    done |= compared
    reasons = [reason for record in compared.values() for reason in record["invalid_reasons"]]
    if reasons:
        raise InvalidError(f"{len(reasons)} reasons not to believe the times that were compared (first: {reasons[0]})", done)
    return done


def lockstep(job: Job, store: Store, *, served: str, evidence: Path) -> dict[str, Any]:
    """Train in lock-step, compare, choose the served weights, replace artifacts/<model>/; returns the manifest's metrics.

    Raises FaceoffError for two trainings that are not equal; their records are in `evidence` then.
    """
    preset, final = job.preset, store.model_dir(job.preset.name)
    if final.exists():
        progress.say(f"train: {final} holds an earlier training; it and its exports will be replaced when this one succeeds")
    with replacing_directory(final) as directory:
        plan = job.write_plan(directory)
        records = {}
        for framework in FRAMEWORKS:
            progress.say(
                f"train: {framework}, {job.num_steps} steps of {preset.training.batch_size}, {job.recipe.describe()}, "
                f"{job.precision}, {job.threads} threads, {job.device}"
            )
            records[framework] = processes.run_stage(f"training.train_{framework}", "--plan", str(directory))
        with outcome.keeping_evidence(directory, evidence):
            apart = judge(job, directory)
            progress.say("train: each framework computes the logits of both sides' weights")
            processes.run_stages([(f"training.evaluate_{f}", ("--plan", str(directory))) for f in FRAMEWORKS])
            metrics = compare(directory, model=preset.name, tolerance=preset.tolerances.frameworks, served=served, apart=apart)
        config = {
            "preset": preset.to_dict(),
            "dataset": job.dataset.describe(),
            "signature": plan["signature"],
            "weights": served,
            "train": "lockstep",
            "optimizer": job.recipe.to_dict(),
            "precision": job.precision,
            "profile": job.profile,
            "seed": plan["seed"],
            "threads": job.threads,
            "device": job.device,
        }
        manifest.write(directory, stage="train", model=preset.name, config=config, metrics=metrics)
    _show(records, metrics)
    return {"model": preset.name, "directory": str(final), **metrics}


def judge(job: Job, directory: Path) -> dict[str, Any]:
    """Hold the losses and the trained weights of both sides against each other, in float64 too where that proves more.

    Returns outcome.compare_losses with `ends` (training.ends) and, where it was trained, `float64` (training.rounding). Raises
    FaceoffError, which names the step or the variable, when they leave the stated bound.
    """
    losses = {framework: outcome.read_record(directory, framework)["losses"] for framework in FRAMEWORKS}
    apart = outcome.compare_losses(losses["torch"], losses["tf"], **job.loss_bounds)
    exact = job.precision == "float64"
    apart["ends"] = ends.compare(directory, bound=ends.FLOAT64_BOUND if exact else ends.FLOAT32_BOUND)
    what = f"{job.preset.name}, {job.recipe.describe()}, torch against tf"
    if num_steps := rounding.steps_to_repeat(job, directory, apart):
        apart["float64"] = rounding.in_float64(job, directory, num_steps)
        outcome.require_lockstep(apart["float64"], model=job.preset.name, what=f"{what} in float64")
        ends.require_equal(apart["float64"]["ends"], what=f"{what} in float64")
    outcome.require_lockstep(apart, model=job.preset.name, what=what)
    if exact:
        ends.require_equal(apart["ends"], what=what)
    return apart


def keep_lockstep(directory: Path, results: Path) -> None:
    """lockstep.json of a named run: losses, times and memory of both sides, for a report over several models."""
    trained = manifest.read(directory, stage="train", command="make train")
    sides = {framework: outcome.read_record(directory, framework) for framework in FRAMEWORKS}
    record = {
        "model": trained.model,
        "config": trained.config,
        "metrics": trained.metrics,
        "losses": {framework: side["losses"] for framework, side in sides.items()},
        "native_not_compared_because": study.why_not(presets.model(trained.model), trained.config["profile"]),
        "sides": {framework: {name: side[name] for name in KEPT} for framework, side in sides.items()},
        "environment": trained.environment,
    }
    write_atomic(results / "lockstep.json", json.dumps(record, indent=1) + "\n")


def compare(directory: Path, *, model: str, tolerance: float, served: str, apart: dict[str, Any]) -> dict[str, Any]:
    """Hold the two trained models against each other and write the served weights and golden outputs.

    `apart` is outcome.compare_losses of the two trainings; it goes into the metrics that are returned. Raises
    FaceoffError when the same weights do not give the same logits in both frameworks.
    """
    plan = plans.read(directory)
    paths = {(framework, source): plan.outputs_of(framework, source) for framework in FRAMEWORKS for source in FRAMEWORKS}
    answers = {key: {rows: plans.load_outputs(path, rows) for rows in ("golden", "test")} for key, path in paths.items()}
    agreement, accuracy = {}, {}
    for source in FRAMEWORKS:
        largest = 0.0
        for rows in ("golden", "test"):
            difference = golden.compare(answers["tf", source][rows], answers["torch", source][rows], tolerance)
            if difference.problem:
                raise FaceoffError(
                    f"the weights of {source} do not give the same outputs in both frameworks: {difference.problem} "
                    f"({rows} rows); the layer where it starts: python -m training.compare_layers --model {model}"
                )
            largest = max(largest, difference.max_abs)
        agreement[source] = {"max_abs_logit_difference": largest, "tolerance": tolerance}
    first = plan.signature.outputs[0].name
    for framework in FRAMEWORKS:
        accuracy[framework] = evaluation.accuracy(plan.loss, answers[framework, served]["test"][first], plan.test_targets)
    records = {framework: outcome.read_record(directory, framework) for framework in FRAMEWORKS}

    shutil.copyfile(plan.checkpoint(served), directory / "weights.npz")
    # The framework that trained the served weights says what they answer; the other agreed above.
    golden.write(
        directory / "golden",
        golden.Golden(inputs=plan.golden_inputs(), outputs=answers[served, served]["golden"]),
    )
    return {
        "agreement": agreement,
        "num_steps": plan.num_steps,
        "max_abs_loss_difference": apart["max_abs_loss_difference"],
        "first_step_apart": apart["first_step_apart"],
        "lockstep": apart,
        "test_accuracy": {framework: records[framework]["test_accuracy"] for framework in FRAMEWORKS},
        "served_accuracy": accuracy,
        "initial_weights_sha256": weights.digest(weights.load(plan.initial_weights)),
        "served_weights_sha256": weights.digest(weights.load(directory / "weights.npz")),
        "batches_sha256": manifest.sha256(directory / "batches.npy"),
    }


def _show(records: dict[str, dict[str, Any]], metrics: dict[str, Any]) -> None:
    rows = [
        [
            framework,
            record["version"],
            "-" if record["first_step_ms"] is None else f"{record['first_step_ms']:.0f}",
            f"{record['training_s']:.2f}",
            f"{record['peak_rss_bytes'] / 2**20:.0f}",
            "-" if record["test_accuracy"] is None else f"{record['test_accuracy']:.4f}",
        ]
        for framework, record in records.items()
    ]
    progress.table("Training", ["framework", "version", "first step ms", "other steps s", "peak RSS MiB", "test accuracy"], rows)
    largest = max(side["max_abs_logit_difference"] for side in metrics["agreement"].values())
    apart, bound = metrics["first_step_apart"], metrics["lockstep"]["bound"]
    loss = metrics["max_abs_loss_difference"]
    progress.say(
        f"train: same weights, logits agree within {largest:.2g}; losses differ by at most {loss:.2g}"
        + f" over {metrics['num_steps']} steps, stated bound {bound:g} over the first {metrics['lockstep']['bound_steps']}"
        + ("" if apart is None else f"; more than {outcome.APART:g} from step {apart + 1}")
    )
    for sentence in rounding.story(metrics["lockstep"]):
        progress.say(f"train: {sentence}")


def parser() -> cli.Parser:
    """The options of `python -m training.train`."""
    parser = cli.Parser(prog="python -m training.train", description=__doc__)
    parser.add_model()
    parser.add_argument("--dataset", default="", help="data set; default: the model's first")
    parser.add_argument("--train", default="lockstep", help="lockstep or native (default: %(default)s)")
    parser.add_argument("--optimizer", default="", help="sgd, adam or adamw; default: the preset's")
    parser.add_argument("--learning-rate", type=float, default=None, help="default: the preset's, or the optimizer's usual one")
    parser.add_argument(
        "--precision", default="float32", help="of both sides: float32, tf32, bf16 or float64 (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=cli.positive_int, default=None, help=f"how many, with --train native (default: {NUM_SEEDS})"
    )
    parser.add_argument(
        "--modes", type=cli.comma_list, default=[], help="compare modes: default, all, or of " + ", ".join(modes.MODES)
    )
    parser.add_argument(
        "--workers", type=cli.positive_int, default=1, help="also train data-parallel with so many (default: %(default)s)"
    )
    parser.add_argument("--run", default="", help="results/RUN/ for what is not the artifact (default: training)")
    parser.add_argument("--weights", default="", help=f"whose weights are served: torch or tf (default: {FRAMEWORKS[0]})")
    parser.add_argument("--profile", default="quick", help="how many steps: quick or full (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--threads", type=cli.positive_int, default=None, help="threads of either framework; default: the usable cores"
    )
    parser.add_store()
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m training.train`."""
    return cli.run(parser(), train, argv)


if __name__ == "__main__":
    raise SystemExit(main())
