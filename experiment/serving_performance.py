"""How fast each server is on the same models and cores, and how far from its limit: docs/serving-performance.md.

`python -m experiment.serving_performance --model cnn,identity` measures each model, one server at a time: the servable in process
(the limit), TorchServe `default` and `tuned`, the embedded server, ONNX Runtime behind the same transport for reference, and
the real TensorFlow Serving where `--subjects` names it. For each protocol, encoding and number of rows a request: throughput of
a closed loop, p50 and p99 at half of it (open loop), the server's CPU a request and its memory. Requests that take longer than
a second in process are left out. Every figure of the page comes from this run; a measurement that the load suite calls INVALID
is marked, with all reasons in results/<run>/.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiment import facts, serving_page
from faceoff import cli, endpoints, environment, presets, processes, progress, servables
from faceoff.errors import InvalidError, StageError, UsageError
from faceoff.store import Store, write_atomic
from serving import settings, state
from serving.placement import choose_cores
from serving.servers import server_class
from serving.status import usage

HEAVY_S, TOO_LONG_S = 0.02, 1.0  # of one request, in process
LIMITS = {"handler": "mar-eager", "savedmodel": "saved_model", "onnx": "onnx"}  # kinds of serving.inprocess, formats of export
ENCODINGS = {"torchserve": (("rest", "json"), ("rest", "raw"), ("grpc", "tensor"))}
TF_ENCODINGS = (("rest", "json"), ("grpc", "tensor"))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A server, its preset, and the file of settings over that, if any."""

    server: str
    tuning: str
    settings: str = ""

    @property
    def label(self) -> str:
        """How the page names the settings: like `tuned` or `tuned+batch16`."""
        return f"{self.tuning}+{Path(self.settings).stem}" if self.settings else self.tuning

    def run(self, prefix: str, *parts: object) -> str:
        """The name of a run of the load suite with it; a run's name takes no `+`."""
        return "-".join(map(str, (prefix, self.server, self.label.replace("+", "-"), *parts)))

    @property
    def arguments(self) -> tuple[str, ...]:
        """Options of serving.deploy."""
        over = ("--settings", self.settings) if self.settings else ()
        return ("--servers", self.server, "--tuning", self.tuning, *over)


def subjects_of(text: str) -> list[Subject]:
    """Read `--subjects`: SERVER:TUNING or SERVER:TUNING+FILE, with commas between. Raises UsageError."""
    found = []
    for part in cli.comma_list(text):
        server, _, rest = part.partition(":")
        tuning, _, path = rest.partition("+")
        given = settings.read(Path(path)) if path else {}
        kind = server_class(server)
        if path and server not in given:
            raise UsageError(f"--subjects {part}: {path} has settings of {', '.join(given) or 'no server'}, not of {server}")
        kind.settings(tuning or "default", given.get(server))
        found.append(Subject(server=server, tuning=tuning or "default", settings=path))
    return found


def _num_rows(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--rows: found {text!r}, expected integers of at least 1, with commas between")
    return int(text)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything, write the record and the page; returns the ratio of tuned to default for each model."""
    models = cli.names(args.model, "model", "--model")
    for model in models:
        presets.model(model)
    store = cli.store(args)
    if state.read(store):
        raise UsageError(f"servers are deployed from {store.artifacts}: run make undeploy first, so that one runs at a time")
    rows = [_num_rows(text) for text in cli.names(args.rows, "number", "--rows")]
    subjects = subjects_of(args.subjects)
    cores = choose_cores(args.cores, share=False)
    artifacts = {model: _artifacts(store, model, args.version) for model in models}
    record: dict[str, Any] = {
        "version": args.version,
        "command": "python -m experiment.serving_performance " + " ".join(sys.argv[1:]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment.record(),
        "cores": list(cores),
        "models": [],
    }
    roots = ("--artifacts", str(store.artifacts), "--results", str(store.results))
    processes.run_stage("loadtest.calibrate", "--missing", *roots)  # or no load is held against the generator's capacity
    path = store.run_dir(args.run) / "serving_performance.json"
    for model in models:  # written after each, so that what was measured is not lost with what was not
        record["models"].append(_model(store, args, model, artifacts[model], subjects=subjects, rows=rows, cores=cores))
        write_atomic(path, json.dumps(record, indent=2) + "\n")
        if args.page:
            write_atomic(Path(args.page), serving_page.render(record))
            progress.say(f"wrote {args.page}, with {model}")
    return {"record": str(path), "page": args.page, "ratios": {about["model"]: about["ratios"] for about in record["models"]}}


def _artifacts(store: Store, model: str, version: int) -> dict[str, Path]:
    """What is called in process, by the kinds of serving.inprocess. Raises MissingStageError."""
    return {kind: servables.read_verified(store, model, version, form).path for kind, form in LIMITS.items()}


def _model(
    store: Store,
    args: argparse.Namespace,
    model: str,
    artifacts: dict[str, Path],
    *,
    subjects: list[Subject],
    rows: list[int],
    cores: tuple[int, ...],
) -> dict[str, Any]:
    """One model: its limits in process, then every server."""
    roots = ("--artifacts", str(store.artifacts), "--results", str(store.results))
    limits = {}
    for kind, artifact in artifacts.items():
        progress.say(f"\n== {model} in process: {artifact}")
        options = ("--kind", kind, "--artifact", str(artifact), "--model", model, "--cores", _text(cores))
        shapes = ",".join(dict.fromkeys(["1x1", "16x1", *(f"1x{number}" for number in rows)]))
        limits[kind] = processes.run_stage("serving.inprocess", *options, "--shapes", shapes, *roots)
    profiles = {number: profile for number in rows if (profile := load_profile(limits, number))}
    machine = facts.at_rest()
    measured = []
    for subject in subjects if profiles else []:
        measured += _subject(store, args, model, subject, profiles=profiles, cores=_text(cores), roots=roots)
    return {
        "model": model,
        "limits": limits,
        "machine": machine,
        "rows_left_out": [number for number in rows if number not in profiles],
        "measured": measured,
        "ratios": serving_page.ratios(measured),
    }


def load_profile(limits: dict[str, Any], rows: int) -> str | None:
    """The load profile for requests of so many rows, by what the slowest servable takes for one in process; None: too long."""
    call = f" 1x{rows}"
    slowest = min(rate for found in limits.values() for name, rate in found["rows_per_s"].items() if name.endswith(call))
    seconds = rows / slowest
    if seconds > TOO_LONG_S:
        return None
    return "serving-heavy" if seconds > HEAVY_S else "serving" if rows == 1 else "serving-rows"


def _subject(
    store: Store,
    args: argparse.Namespace,
    name: str,
    subject: Subject,
    *,
    profiles: dict[int, str],
    cores: str,
    roots: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Deploy one server with one tuning, alone; measure all its combinations, stop it."""
    server, tuning = subject.server, subject.label
    progress.say(f"\n== {name} on {server}, {tuning}")
    model = ("--model", name, "--version", str(args.version))
    options = (*subject.arguments, "--ports", "free", "--cores", cores)
    found = []
    try:
        processes.run_stage("serving.deploy", *model, *options, *roots)
        for number, profile in profiles.items():
            for protocol, encoding in ENCODINGS.get(server, TF_ENCODINGS):
                load = ("--profile", profile, "--protocols", protocol, "--encodings", encoding, "--rows", str(number))
                run = subject.run(f"{args.run}-{name}", protocol, encoding, number)
                entry = _combination(store, run, *load, *model, *roots)
                found.append(
                    {"server": server, "tuning": tuning, "rows": number, "protocol": protocol, "encoding": encoding, **entry}
                )
    finally:
        processes.run_stage("serving.undeploy", *roots)
    return found


def _combination(store: Store, run: str, *load: str) -> dict[str, Any]:
    """One protocol, encoding and number of rows of the deployed server: the load suite's figures, CPU and memory."""
    (endpoint,) = endpoints.read(store)
    (owned,) = state.read(store)
    kind = server_class(endpoint.server)
    before, cpu_before = kind.metrics(endpoint), usage(owned)["cpu_s"]
    try:
        processes.run_stage("loadtest.run", "--scenarios", "closed,server", *load, "--run", run)
    except StageError as error:
        if error.exit_code != InvalidError.exit_code:
            raise
    used, happened = usage(owned), kind.metrics(endpoint).since(before)
    summary = json.loads((store.run_dir(run) / "summary.json").read_text(encoding="utf-8"))
    by_scenario = {measurement["scenario"]: measurement for measurement in summary["measurements"]}
    closed, half = by_scenario["closed"], by_scenario.get("server")
    cpu_s = used["cpu_s"] - cpu_before
    return {
        "connections": closed["load"]["value"],
        "throughput_rps": closed["throughput_rps"],
        "half_load_rps": half["load"]["value"] if half else None,
        "latency_ms": half["latency_ms"] if half else None,
        "cpu_us_per_request": 1e6 * cpu_s / happened.requests if happened.requests else None,
        "queue_ms": happened.queue_ms,
        "compute_ms": happened.compute_ms,
        "rss_mib": used["rss_mib"],
        "num_wrong": sum(m["num_wrong"] for m in summary["measurements"]),
        "num_errors": sum(m["num_errors"] for m in summary["measurements"]),
        "invalid": [name for name, m in by_scenario.items() if not m["valid"]],
        "implementation": endpoint.implementation,
        "settings": endpoint.settings,
        "run": run,
    }


def _text(cores: tuple[int, ...]) -> str:
    return ",".join(map(str, cores))


def main(argv: list[str] | None = None) -> int:
    """`python -m experiment.serving_performance`."""
    parser = cli.Parser(prog="python -m experiment.serving_performance", description=__doc__)
    parser.add_argument("--model", default="cnn,identity", help="comma list of names from presets/models (default: %(default)s)")
    parser.add_argument("--version", type=cli.positive_int, default=1, help="version of the servables (default: %(default)s)")
    subjects = "torchserve:default,torchserve:tuned,tfserving-embedded:tuned,onnxruntime:tuned"
    parser.add_argument(
        "--subjects", default=subjects, help="comma list of SERVER:TUNING or SERVER:TUNING+SETTINGS_FILE (default: %(default)s)"
    )
    parser.add_argument("--rows", default="1,32", help="comma list of rows a request (default: %(default)s)")
    parser.add_argument("--cores", default="", help="cores of the servers, like 0-2,4 (default: all but the generator's)")
    parser.add_argument("--run", default="serving-performance", help="name of the run (default: %(default)s)")
    parser.add_argument("--page", default="docs/serving-performance.md", help="the page to write (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
