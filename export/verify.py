"""Verify every exported artifact in its own runtime against the golden outputs; what differs is refused.

`python -m export.verify --model cnn --version 1` writes artifacts/<model>/export/<version>/verify/manifest.json,
which deploy asks for, prints the matrix of formats, and ends with exit code 1 when an artifact was refused.
"""

from __future__ import annotations

import argparse
from typing import Any

from export import formats
from faceoff import cli, golden, manifest, presets, processes, progress, servables
from faceoff.errors import FaceoffError, StageError
from faceoff.servables import Servable
from faceoff.store import Store, replacing_directory

AT_ONCE = 4  # verifiers side by side: nothing is timed but the load, and each holds a framework in memory


def run(store: Store, model: str, version: int) -> dict[str, Any]:
    """Verify and record; returns the artifacts with their status. Raises FaceoffError for a refused one."""
    servables.read_trained(store, model)
    directory, record, found = servables.read_exported(store, model, version)
    manifest.check_files(directory, record, command=f"make export MODEL={model} VERSION={version}")
    sizes = ", ".join(map(str, golden.BATCH_SIZES))
    progress.say(f"verify: {len(found)} artifacts, each in its own process, batch sizes {sizes}")
    verdicts = _verify_all(store, model, version, list(found.values()))
    artifacts = [verdicts.get(row["name"], row) for row in record.metrics["artifacts"]]
    with replacing_directory(store.verify_dir(model, version)) as target:
        manifest.write(
            target,
            stage="verify",
            model=model,
            inputs={"export": manifest.sha256(directory / manifest.NAME)},
            config={"version": version},
            metrics={"artifacts": artifacts},
        )
    _show(model, version, artifacts)
    refused = [artifact for artifact in artifacts if artifact["status"] == "refused"]
    if refused:
        first = refused[0]
        raise FaceoffError(
            f"{len(refused)} of {len(artifacts)} artifacts refused; {first['name']}: {first['reason']}; "
            f"tolerance {first['tolerance']:g}; reproduce: {first['reproduce']}",
            details={"model": model, "version": version, "artifacts": artifacts},
        )
    return {"model": model, "version": version, "artifacts": artifacts}


def _verify_all(store: Store, model: str, version: int, found: list[Servable]) -> dict[str, dict[str, Any]]:
    """The verdict on each artifact by its name, from a process each, a few at once."""
    options = ["--model", model, "--version", str(version)]
    options += ["--artifacts", str(store.artifacts), "--results", str(store.results)]
    verdicts: dict[str, dict[str, Any]] = {}
    # One after the other where each takes its time over the test set, which says a little then.
    at_once = 1 if formats.has_lower_precision(servable.name for servable in found) else AT_ONCE
    for start in range(0, len(found), at_once):
        running = [(servable.name, _start(servable, options)) for servable in found[start : start + at_once]]
        try:
            verdicts |= {name: _outcome(stage) for name, stage in running}
        finally:
            for _, stage in running:
                if stage.process.poll() is None:
                    stage.stop()
    return verdicts


def _start(servable: Servable, options: list[str]) -> processes.Stage:
    row = formats.BY_NAME[servable.name]
    return processes.start_stage(row.verifier, "--artifact", servable.name, *options, python=row.interpreter())


def _outcome(stage: processes.Stage) -> dict[str, Any]:
    try:
        result = stage.wait()
    except StageError as error:
        if "artifact" not in error.details:  # not a refusal: the verifier itself broke
            raise
        result = error.details
    artifact: dict[str, Any] = result["artifact"]
    return artifact


def _show(model: str, version: int, artifacts: list[dict[str, Any]]) -> None:
    def number(row: dict[str, Any], name: str, form: str) -> str:
        value = row.get(name)
        return "-" if value is None else format(value, form)

    measured = next((a for a in artifacts if "test_accuracy" in a), None)
    rows = [
        [
            a["name"],
            a["status"],
            number(a, "size_bytes", ",d"),
            number(a, "export_s", ".1f"),
            number(a, "load_s", ".1f"),
            number(a, "max_abs_difference", ".2g"),
            number(a, "max_rel_difference", ".2g"),
            number(a, "tolerance", ".2g"),
            *([number(a, "test_accuracy", ".4f"), number(a, "indicative_ms_per_row", ".4f")] if measured else []),
            ", ".join(dict.fromkeys(str(check["batch_size"]) for check in a.get("checks", []))) or "-",
        ]
        for a in artifacts
    ]
    columns = ["artifact", "status", "bytes", "export s", "load s", "max abs", "max rel", "tolerance"]
    columns += ["accuracy", "~ms/row"] if measured else []
    progress.table(f"{model} version {version}", [*columns, "batch sizes"], rows)
    if measured:
        progress.say(
            f"accuracy: {measured['num_test_rows']} rows of the test set, {number(measured, 'test_accuracy_float32', '.4f')} in "
            "training's float32; ~ms/row: in process, 64 rows a call, indicative only (export.quality)"
        )
    for a in artifacts:
        if a["status"] != "verified":
            progress.say(f"{a['name']} is {a['status']}: {a['reason']}")


def verify(args: argparse.Namespace) -> dict[str, Any]:
    """The command: one model's version."""
    presets.model(args.model)
    return run(cli.store(args), args.model, args.version)


def main(argv: list[str] | None = None) -> int:
    """`python -m export.verify`."""
    parser = cli.Parser(prog="python -m export.verify", description=__doc__)
    parser.add_model()
    parser.add_argument("--version", type=cli.positive_int, default=1, help="version of the servables (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, verify, argv)


if __name__ == "__main__":
    raise SystemExit(main())
