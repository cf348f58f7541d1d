"""The whole experiment on one model, ending in a verdict: default against default, and best against best.

`python -m experiment.compare --model cnn --servers torchserve,tfserving --profile quick`
  1. runs the stages that are missing (train, export, verify), and calibrates the generator where nobody did on this machine;
  2. measures each server's closed-loop capacity as installed, which fixes one open-loop rate for all;
  3. spends the same number of trials on each server's settings (experiment/tuning.py);
  4. visits the servers one at a time, repeated and interleaved in an order drawn from the seed (experiment/plan.py);
  5. measures the floors, then a sweep and every encoding of each (experiment/wide.py);
  6. checks fairness, compares (faceoff.verdict), writes results/<run>/ and its report. The steps are in experiment/steps.py.
Servers of another deploy must be stopped first; whatever happens, all that is started here is stopped. Exit code 3: measured, and
INVALID. A run that fails leaves what it measured in results/<run>.partial/.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiment import cost, floors, plan
from experiment.demo import missing_stages
from experiment.steps import Experiment
from experiment.visit import Bench
from faceoff import cli, devices, presets, processes, progress, runs
from faceoff.errors import InvalidError, UsageError
from faceoff.store import Store, replacing_directory
from serving import state
from serving.deploy import resolve

DEFAULT_SEED = 1
PROTOCOLS = ("rest", "grpc")


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Run the experiment; returns the verdict's sentences and where everything is. Raises InvalidError after the report."""
    presets.model(args.model)
    profile, device = plan.profile(args.profile), devices.resolve(args.device)
    servers, protocols = resolve(args.servers), _protocols(args.protocols)
    if len(servers) < 2:
        raise UsageError(f"SERVERS={args.servers}: expected at least two servers to compare")
    prices = cost.read(args.prices) if args.prices else None
    store = cli.store(args)
    run_dir = store.run_dir(args.run)
    runs.check_replaceable(run_dir, runs.COMPARISON)
    if state.read(store):
        raise UsageError(f"servers are deployed from {store.artifacts}: run make undeploy first, so that one runs at a time")
    for model in (args.model, floors.MODEL):
        _prepare(store, model, device)
    roots = ("--artifacts", str(store.artifacts), "--results", str(store.results))
    processes.run_stage("loadtest.calibrate", "--missing", *roots)  # or no load is held against the generator's capacity
    options = {"model": args.model, "servers": servers, "protocols": list(protocols), "profile": profile.name, "seed": args.seed}
    with _folder(run_dir) as folder:
        bench = Bench(store=store, model=args.model, device=device, protocols=protocols, folder=folder)
        experiment = Experiment(bench=bench, profile=profile, servers=servers, seed=args.seed, prices=prices)
        try:
            experiment.run()
        finally:
            bench.close()
        sentences, reasons = experiment.write(args.run, {**options, "device": device})
    built = processes.run_stage("report.build", "--run", args.run, *roots)
    progress.say("")
    for sentence in sentences:
        progress.say(sentence)
    details = {"run": args.run, "verdict": sentences, "report": built["report"], "summary": str(run_dir / "summary.json")}
    if reasons:
        for reason in reasons:
            progress.say(f"INVALID: {reason}")
        raise InvalidError(f"{len(reasons)} reasons not to believe this comparison (first: {reasons[0]})", details)
    return details


def _prepare(store: Store, model: str, device: str) -> None:
    """Run the stages of `model` that are missing."""
    roots = ("--artifacts", str(store.artifacts), "--results", str(store.results))
    for name, module in (("train", "training.train"), ("export", "export.export"), ("verify", "export.verify")):
        if name not in missing_stages(store, model):
            continue
        progress.say(f"\n== {name} {model}")
        processes.run_stage(module, "--model", model, *(("--device", device) if name == "train" else ()), *roots)


def _protocols(text: str) -> tuple[str, ...]:
    names = cli.names(text, "protocol", "PROTOCOLS", PROTOCOLS)
    return tuple(name for name in PROTOCOLS if name in names)


@contextmanager
def _folder(run_dir: Path) -> Iterator[Path]:
    """The run's folder, put in place as a whole; after a failure what is there is kept beside it, and that is said."""
    if run_dir.exists():
        progress.say(f"{run_dir} exists: it is replaced when this run has finished")
    with replacing_directory(run_dir) as folder:
        try:
            yield folder
        except BaseException:
            partial = run_dir.with_name(f"{run_dir.name}.partial")
            if any(folder.iterdir()):
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(folder, partial)
                progress.say(f"compare: what was measured so far is in {partial}")
            raise


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m experiment.compare`."""
    parser = cli.Parser(prog="python -m experiment.compare", description=__doc__)
    parser.add_model()
    parser.add_argument("--servers", default="torchserve,tfserving", help="comma list (default: %(default)s)")
    parser.add_argument("--protocols", default="rest,grpc", help="comma list (default: %(default)s)")
    parser.add_argument("--profile", default="quick", help="quick, hour or full (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of order, schedules and tuner (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    prices = "YAML price list (experiment/cost.py), for the cost of a million inferences"
    parser.add_argument("--prices", type=Path, metavar="FILE", help=prices)
    parser.add_argument("--run", default="compare", help="name of the run (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, compare, argv)


if __name__ == "__main__":
    raise SystemExit(main())
