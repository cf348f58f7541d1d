"""Start servers of models and versions on loopback, wait until each answers, prove parity on the wire.

`python -m serving.deploy --model cnn,lstm --version 1,2 --servers torchserve,tfserving --cores 0-2 --ports free`
writes artifacts/endpoints.json (one entry a server, model and version) and artifacts/deploy/parity.json.
`tfserving` is the real TensorFlow Serving where it is found (TENSORFLOW_MODEL_SERVER=<path>, then PATH), else
the embedded server, and which one is said. A second deploy replaces the first. Whatever fails, nothing is left
running. `--settings FILE` changes settings of the preset that `--tuning` names (serving/settings.py).
`--target compose|k8s` does the same in containers (serving/containers.py, docs/containers.md).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from faceoff import cli, devices, endpoints, evaluation, images, manifest, presets, progress, servables
from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError
from faceoff.presets import ModelPreset
from faceoff.servables import Trained
from faceoff.store import Store, write_atomic
from serving import containers, interrupts, parity, settings, state, warmup
from serving.interrupts import ignore_interrupts
from serving.lifecycle import Job, Served, Server
from serving.owned import Owned
from serving.placement import choose_cores, choose_ports, numbers
from serving.protocols import ENCODINGS
from serving.servers import server_class


def deploy(args: argparse.Namespace) -> dict[str, Any]:
    """Check everything that can be checked first, then start, wait, prove; returns the endpoints."""
    stack = containers.stack(args.target)
    names = stack.resolve(args.servers) if stack else resolve(args.servers)
    store = cli.store(args)
    chosen = [presets.model(name) for name in cli.names(args.model, "model", "MODEL")]
    versions = [_version(text) for text in cli.names(args.version, "version", "VERSION")]
    labels = _labels(args.labels, versions)
    cores = choose_cores(args.cores, share=args.share_generator)
    device = devices.resolve(args.device)
    encodings = cli.names(args.encodings, "encoding", "--encodings", ENCODINGS)
    in_force = _settings(names, args.tuning, args.settings)
    check_ports(names, args.ports, ours_run=True)  # whether they are free shows when the servers of an earlier deploy are stopped
    with state.lock(store, "deploy"):
        trained = {preset.name: servables.read_trained(store, preset.name) for preset in chosen}
        jobs = []
        for name in names:
            kind = server_class(name)
            form = kind.servable_format(in_force[name])
            ready = tuple(served(store, trained[p.name], form, v) for p in chosen for v in versions)
            job = Job(
                served=ready,
                artifact_format=form,
                settings=in_force[name],
                cores=cores,
                device=device,
                workdir=(store.deploy_dir / name).resolve(),
                labels=labels,
            )
            kind.check_job(job)
            jobs.append(job)
        if stack:
            stack.check(names, device)
        else:
            for name in names:
                server_class(name).check()
        stopped = state.stop_all(store)
        if stopped:
            progress.say(f"deploy: stopped the servers of an earlier deploy: {', '.join(stopped)}")
        ports = _ports(names, args.ports)
        servers = [server_class(name)(job, ports[name]) for name, job in zip(names, jobs, strict=True)]
        try:
            found = stack.bring_up(store, servers, trained) if stack else _bring_up(store, servers)
            checks = _prove(store, found, chosen, trained, encodings)
            found = [warmup.warmed(endpoint, trained[endpoint.model]) for endpoint in found]
            endpoints.write(store.endpoints, found)
        except BaseException:
            ignore_interrupts()
            _clean_up(store, servers)
            raise
    _show(found)
    return {
        "endpoints": list(dict.fromkeys(endpoint.server for endpoint in found)),
        "models": sorted({f"{endpoint.model}/{endpoint.version}" for endpoint in found}),
        "file": str(store.endpoints),
        "parity_checks": checks,
    }


def resolve(servers: str) -> list[str]:
    """The servers to start, with `tfserving` decided. Raises UsageError for an unknown or repeated one."""
    names = cli.comma_list(servers)
    for index, name in enumerate(names):
        server_class(name)
        if name == "tfserving":
            from serving.servers.tfserving import find_model_server

            path = find_model_server()
            names[index] = "tfserving" if path else "tfserving-embedded"
            if path:
                progress.say(f"deploy: tfserving is the real TensorFlow Serving, {path}")
            else:
                progress.say(
                    "deploy: no tensorflow_model_server at TENSORFLOW_MODEL_SERVER or on PATH; using tfserving-embedded, "
                    "our Python server behind the same API: its numbers are not TensorFlow Serving's"
                )
    if not names or len(set(names)) != len(names):
        raise UsageError(f"SERVERS={servers}: expected one or more different servers (tfserving may stand for the embedded one)")
    return names


def _version(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"VERSION: found {text!r}, expected integers of at least 1, with commas between")
    return int(text)


def _labels(text: str, versions: list[int]) -> dict[str, int]:
    labels: dict[str, int] = {}
    for part in cli.comma_list(text):
        label, _, version = part.partition("=")
        if not label or not version.isdecimal() or int(version) not in versions:
            raise UsageError(f"LABELS={text}: found {part!r}, expected a name and one of the versions {versions}, like stable=1")
        if label in labels:
            raise UsageError(f"LABELS={text}: found {label!r} twice, expected each once")
        labels[label] = int(version)
    return labels


def _settings(names: list[str], tuning: str, path: Path | None) -> dict[str, dict[str, Any]]:
    """The settings of each server that is started. All of the file is checked, also what is about others.

    Raises UsageError for a file that is about others only: nothing that it asks for would be done.
    """
    given = settings.read(path) if path else {}
    found = {name: server_class(name).settings(tuning, given.get(name)) for name in {**dict.fromkeys(names), **given}}
    unused = sorted(set(given) - set(names))
    if given and set(given) == set(unused):
        raise UsageError(f"SETTINGS={path}: found settings of {', '.join(unused)}, expected some of {', '.join(names)} (SERVERS)")
    if unused:
        progress.say(f"deploy: {path} also has settings of {', '.join(unused)}, not started now")
    return found


def check_ports(names: list[str], mode: str, *, ours_run: bool) -> None:
    """Raise UsageError for ports that are not understood or are in use; those that servers of ours hold now will be free."""
    wanted = {key: server_class(name).standard_ports[use] for (name, use), key in _uses(names).items()}
    if ours_run:
        numbers(wanted, mode)
    else:
        choose_ports(wanted, mode)


def _ports(names: list[str], mode: str) -> dict[str, dict[str, int]]:
    """The ports of each server."""
    keys = _uses(names)
    chosen = choose_ports({key: server_class(name).standard_ports[use] for (name, use), key in keys.items()}, mode)
    return {name: {use: chosen[key] for (other, use), key in keys.items() if other == name} for name in names}


def _uses(names: list[str]) -> dict[tuple[str, str], str]:
    """What each port of each server is called; a use that two servers have is told apart by the server's name."""
    uses = [(name, use) for name in names for use in server_class(name).standard_ports]
    several = {use for _, use in uses if sum(use == other for _, other in uses) > 1}
    return {(name, use): f"{use} of {name}" if use in several else use for name, use in uses}


def served(store: Store, trained: Trained, form: str, version: int) -> Served:
    """The verified servable of format `form`. Raises as `servables.read_verified`.

    The wire's tolerance is for float32; a servable that was verified within a wider one answers within that.
    """
    model = trained.manifest.model
    found = servables.read_verified(store, model, version, form)
    return Served(
        model=model,
        version=version,
        artifact=found.path.resolve(),
        export_sha256=manifest.sha256(store.export_dir(model, version) / manifest.NAME),
        signature=trained.signature,
        precision=found.precision,
        tolerance=max(presets.model(model).tolerances.wire, found.tolerance),
    )


def _bring_up(store: Store, servers: list[Server]) -> list[Endpoint]:
    """Start all, then wait for all: start-up is not measured, so it may overlap."""
    owned: list[Owned] = []
    for server in servers:
        shutil.rmtree(server.job.workdir, ignore_errors=True)
        with interrupts.held():
            owned.append(server.start())
            state.write(store, owned)
        progress.say(
            f"deploy: started {server.name}, pid {owned[-1].pid}, cores {list(server.job.cores)}, log {_relative(server.log)}"
        )
    for server in servers:
        server.wait_ready()
        names = ", ".join(f"{served.model} version {served.version}" for served in server.job.served)
        progress.say(f"deploy: {server.name} answers for {names}")
    return [endpoint for server in servers for endpoint in server.describe()]


def _clean_up(store: Store, servers: list[Server]) -> None:
    """Stop what was started, also what is not on record yet. What cannot be stopped is said: why deploy failed comes first."""
    stops: list[Callable[[], object]] = [*(server.stop for server in servers), partial(state.stop_all, store)]
    for stop in stops:
        try:
            stop()
        except Exception as error:  # whatever it is, the next is stopped all the same
            progress.say(f"deploy: and then: {error}")


def _prove(
    store: Store, found: list[Endpoint], chosen: list[ModelPreset], trained: dict[str, Trained], encodings: list[str]
) -> int:
    """Parity of every endpoint with its own model's golden rows and test set; returns how many checks were made."""
    checks: list[dict[str, Any]] = []
    test_sets: list[dict[str, Any]] = []
    for preset in chosen:
        of_model = [endpoint for endpoint in found if endpoint.model == preset.name]
        about = trained[preset.name]
        for version in sorted({endpoint.version for endpoint in of_model}):
            of_version = [endpoint for endpoint in of_model if endpoint.version == version]
            pictures = images.read(store.export_dir(preset.name, version), about.signature)
            checks += parity.check(of_version, about.signature, about.golden, pictures, encodings)
        test_sets += parity.check_test_set(of_model, about.signature, evaluation.read(about), presets.export().min_accuracy_ratio)
    record = {"checks": checks, "test_sets": test_sets, "num_rows": trained[chosen[0].name].golden.num_rows}
    write_atomic(store.deploy_dir / "parity.json", json.dumps(record, indent=2) + "\n")
    return len(checks) + len(test_sets)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _show(found: list[Endpoint]) -> None:
    rows = [
        [e.server, f"{e.model}/{e.version}", e.artifact_format, e.implementation, e.rest_url, e.grpc_target, e.device]
        for e in found
    ]
    progress.table("Deployed", ["server", "model", "artifact", "implementation", "REST", "gRPC", "device"], rows)


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.deploy`."""
    parser = cli.Parser(prog="python -m serving.deploy", description=__doc__)
    parser.add_argument("--model", default="cnn", help="comma list of names from presets/models (default: %(default)s)")
    parser.add_argument("--version", default="1", help="comma list of versions of the servables (default: %(default)s)")
    parser.add_argument("--servers", default="torchserve,tfserving", help="comma list (default: %(default)s)")
    parser.add_argument("--target", default="local", help="local, compose or k8s (default: %(default)s)")
    ports = "standard, free, or a list like tfserving-rest=9000,torchserve-grpc=9001 (the others free; default: %(default)s)"
    parser.add_argument("--ports", default="standard", help=ports)
    parser.add_argument("--cores", default="", help="cores of the servers, like 0-2,4 (default: all but the generator's)")
    parser.add_argument("--share-generator", action="store_true", help="let --cores take the load generator's core")
    parser.add_argument("--labels", default="", help="TF Serving's version labels, like stable=1,canary=2")
    parser.add_argument("--tuning", default="default", help="settings in presets/servers (default: %(default)s)")
    over = "JSON or YAML file of settings over those, {server: {setting: value}}"
    parser.add_argument("--settings", type=Path, metavar="FILE", help=over)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    proven = "comma list of encodings whose parity is proven beside json and tensor (default: all that a server takes)"
    parser.add_argument("--encodings", default=",".join(ENCODINGS), metavar="LIST", help=proven)
    parser.add_store()
    return cli.run(parser, deploy, argv)


if __name__ == "__main__":
    raise SystemExit(main())
