"""The whole path once: train, export, verify, deploy, load test, report, undeploy.

`python -m experiment.demo` runs the stages that are missing, each as its own process, stops the servers it
started, and prints where the report is. A stage that is skipped is named, with the reason; a training is one
of `--profile` or longer, else it is done again. A stage's failure is the demo's; a load test that is INVALID
still gives its report, and exit code 3.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from faceoff import cli, devices, endpoints, manifest, presets, processes, progress
from faceoff.errors import FaceoffError, InvalidError, StageError, UsageError
from faceoff.store import Store
from serving import state
from serving.deploy import check_ports, resolve
from serving.protocols import PROTOCOLS
from serving.servers import server_class

Stage = Callable[..., dict[str, Any]]  # of a name, a module and its options; returns the stage's JSON line


def demo(args: argparse.Namespace) -> dict[str, Any]:
    """Run the path; returns the report's place and the seconds of each stage. Raises InvalidError after the report."""
    store = cli.store(args)
    run_dir = store.run_dir(args.run)
    check(args)
    model, device = ("--model", args.model), ("--device", args.device)
    seconds: dict[str, float] = {}

    def stage(name: str, module: str, *options: str) -> dict[str, Any]:
        progress.say(f"\n== {name}")
        started = time.monotonic()
        try:
            return processes.run_stage(module, *options, "--artifacts", str(store.artifacts), "--results", str(store.results))
        finally:
            seconds[name] = round(time.monotonic() - started, 1)

    prepare(args, stage)
    ours = not deployed(store, args.model)
    invalid: StageError | None = None
    try:
        if ours:
            options = ("--servers", args.servers, "--ports", args.ports, "--tuning", args.tuning)
            try:
                stage("deploy", "serving.deploy", *model, *device, *options)
            except StageError as error:
                ours = error.exit_code != UsageError.exit_code  # refused: what runs now, or soon, is somebody else's
                raise
        else:
            progress.say("demo: measuring the servers that are deployed already, and leaving them")
        try:
            load = ("--servers", args.servers, "--protocols", args.protocols, "--profile", args.profile, "--run", args.run)
            stage("loadtest", "loadtest.run", *model, *load)
        except StageError as error:
            if error.exit_code != InvalidError.exit_code:
                raise
            invalid = error
        built = stage("report", "report.build", "--run", args.run)
    finally:
        if ours:
            stage("undeploy", "serving.undeploy")
    _show(seconds, run_dir)
    details = {"report": built["report"], "summary": str(run_dir / "summary.json"), "seconds": seconds}
    if invalid is not None:
        raise InvalidError(str(invalid), details)
    return details


def prepare(args: argparse.Namespace, stage: Stage) -> None:
    """Train, export and verify what is missing; a stage that is skipped is named, with the reason."""
    store, model = cli.store(args), ("--model", args.model)
    directory, profile = store.model_dir(args.model), trained_profile(store, args.model)
    missing = missing_stages(store, args.model)
    if "train" not in missing and shorter(args.model, profile, args.profile):
        progress.say(f"demo: {directory} holds a training of profile {profile}, shorter than {args.profile}: it is trained again")
        missing = ["train", "export", "verify"]
    if "train" in missing:
        stage("train", "training.train", *model, "--device", args.device, "--profile", args.profile)
    else:
        progress.say(f"\n== train: skipped, {directory} holds a training of profile {profile}")
    if "export" in missing:
        stage("export", "export.export", *model)
    else:
        progress.say(f"\n== export: skipped, {store.export_dir(args.model, 1)} holds the exports of this training")
    if "verify" in missing_stages(store, args.model):
        stage("verify", "export.verify", *model)
    else:
        progress.say(f"\n== verify: skipped, {store.verify_dir(args.model, 1)} holds the proof of these exports")


def check(args: argparse.Namespace) -> None:
    """Raise UsageError now for what a stage would refuse only after minutes of training and exporting."""
    presets.model(args.model)
    presets.load_profile(args.profile)
    cli.names(args.protocols, "protocol", "PROTOCOLS", PROTOCOLS)
    devices.resolve(args.device)
    names = resolve(args.servers)
    for name in names:
        server = server_class(name)
        server.settings(args.tuning)
        server.check()
    check_ports(names, args.ports, ours_run=any(process.alive() for process in state.read(cli.store(args))))


def missing_stages(store: Store, model: str) -> list[str]:
    """The stages from the first that is missing or does not fit the one before it."""
    stages: Sequence[tuple[str, Path]] = (
        ("train", store.model_dir(model)),
        ("export", store.export_dir(model, 1)),
        ("verify", store.verify_dir(model, 1)),
    )
    names = [name for name, _ in stages]
    upstream: tuple[str, str] | None = None
    for index, (name, directory) in enumerate(stages):
        try:
            record = manifest.read(directory, stage=name, command=f"make {name}")
            only = ("weights.npz", "golden") if name == "train" else None
            manifest.check_files(directory, record, command=f"make {name}", only=only)
        except FaceoffError:
            return names[index:]
        if upstream is not None and record.inputs.get(upstream[0]) != upstream[1]:
            return names[index:]
        if name == "verify" and any(a["status"] == "refused" for a in record.metrics["artifacts"]):
            return names[index:]
        upstream = (name, manifest.sha256(directory / manifest.NAME))
    return []


def trained_profile(store: Store, model: str) -> str:
    """The profile of the training in artifacts/<model>/; `unknown` where there is none or it does not say."""
    try:
        return str(manifest.read(store.model_dir(model), stage="train", command="make train").config.get("profile", "unknown"))
    except FaceoffError:
        return "unknown"


def shorter(model: str, profile: str, wanted: str) -> bool:
    """Whether a training of `profile` takes fewer steps than one of `wanted`; one of no known profile does."""
    steps = presets.model(model).training.steps
    return steps.get(profile, -1) < steps.get(wanted, 0)


def deployed(store: Store, model: str) -> bool:
    """Whether servers of this very export run already."""
    owned = state.read(store)
    if not owned or not all(process.alive() for process in owned) or not store.endpoints.exists():
        return False
    current = manifest.sha256(store.export_dir(model, 1) / manifest.NAME)
    return all(e.model == model and e.export_sha256 == current for e in endpoints.read(store))


def _show(seconds: dict[str, float], run_dir: Path) -> None:
    rows = [[name, f"{value:.1f}"] for name, value in seconds.items()]
    progress.table("Demo", ["stage", "seconds"], [*rows, ["total", f"{sum(seconds.values()):.1f}"]])
    progress.say(f"The report: {run_dir / 'report.html'}")


def main(argv: list[str] | None = None) -> int:
    """`python -m experiment.demo`."""
    parser = cli.Parser(prog="python -m experiment.demo", description=__doc__)
    parser.add_model()
    parser.add_argument("--servers", default="torchserve,tfserving", help="comma list (default: %(default)s)")
    parser.add_argument("--protocols", default="rest,grpc", help="comma list (default: %(default)s)")
    parser.add_argument("--profile", default="quick", help="quick or full (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--tuning", default="default", help="settings in presets/servers (default: %(default)s)")
    parser.add_argument("--ports", default="free", help="standard or free (default: %(default)s)")
    parser.add_argument("--run", default="demo", help="name of the run (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, demo, argv)


if __name__ == "__main__":
    raise SystemExit(main())
