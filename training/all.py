"""Train every model, one after the other, and build the page over all of them: `make train-all`.

`python -m training.all --run zoo` trains in lock-step; `--train native --seeds 3` lets each framework go its own way where
a model has an accuracy to compare, and says why where it has none. Both write to results/<run>/training/, so that one
page shows both. Each model is a `python -m training.train` of its own; the first that fails ends it, with that one's exit
code. The last line has the seconds of each model, of the report and in all:
{"status", "run", "train", "report", "left_out": {model: why}, "seconds": {model: s, "report": s}, "total_s"}.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from faceoff import cli, presets, processes, progress
from faceoff.errors import UsageError
from training import job as jobs
from training import study


def train_all(args: argparse.Namespace) -> dict[str, Any]:
    """Train the models, then build the report; returns the JSON line."""
    jobs.check_kind(args.train, args.seeds)
    models = cli.names(args.models, "model", "--models")
    for name in models:  # all, before the first is trained
        jobs.check(presets.model(name), precision=args.precision, profile=args.profile, device=args.device)
    left_out = {}
    if args.train == "native":
        left_out = {name: why for name in models if (why := study.why_not(presets.model(name), args.profile))}
    chosen = [name for name in models if name not in left_out]
    if not chosen:
        raise UsageError(f"--models {args.models}: expected one with an accuracy to compare (TRAIN=native)")
    for name, why in left_out.items():
        progress.say(f"train-all: {name} is left out: it {why}")
    roots = ("--run", args.run, "--artifacts", str(args.artifacts), "--results", str(args.results))
    how = ("--train", args.train, "--precision", args.precision, *(("--seeds", str(args.seeds)) if args.seeds else ()))
    options = (*how, "--profile", args.profile, "--device", args.device, *roots)
    seconds = {}
    for number, name in enumerate(chosen, 1):
        progress.say(f"\n== {number} of {len(chosen)}: {name}")
        begin = time.monotonic()
        processes.run_stage("training.train", "--model", name, *options)
        seconds[name] = round(time.monotonic() - begin, 1)
    begin = time.monotonic()
    built = processes.run_stage("report.build", *roots)  # as a process: training imports nothing of the report's
    seconds["report"] = round(time.monotonic() - begin, 1)
    total = round(sum(seconds.values()), 1)
    rows = [[name, f"{value:.1f}"] for name, value in seconds.items()]
    progress.table(f"Every model, {args.train}", ["", "seconds"], [*rows, ["total", f"{total:.1f}"]])
    return {
        "run": args.run,
        "train": args.train,
        "report": built["report"],
        "left_out": left_out,
        "seconds": seconds,
        "total_s": total,
    }


def main(argv: list[str] | None = None) -> int:
    """`python -m training.all`."""
    parser = cli.Parser(prog="python -m training.all", description=__doc__)
    parser.add_argument("--models", default=",".join(presets.MODELS), help="comma list (default: every model)")
    parser.add_argument("--train", default="lockstep", help="lockstep or native (default: %(default)s)")
    parser.add_argument("--seeds", type=cli.positive_int, default=None, help="how many, with --train native (default: train's)")
    parser.add_argument("--precision", default="float32", help="of both sides (default: %(default)s)")
    parser.add_argument("--profile", default="quick", help="quick or full (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--run", default="zoo", help="results/RUN/ (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, train_all, argv)


if __name__ == "__main__":
    raise SystemExit(main())
