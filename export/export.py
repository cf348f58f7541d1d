"""Export the served weights of one model from both frameworks, and prove what was exported.

`python -m export.export --model cnn --formats all` writes artifacts/<model>/export/<version>/ with a manifest and then
verifies it (export.verify): the table and the JSON line have a row for each format with `verified`, `refused` or
`unsupported` and the reason. The rows are those of export.formats.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from export import formats, reference_torch, verify
from faceoff import cli, manifest, presets, processes, progress, servables
from faceoff.errors import FaceoffError
from faceoff.servables import Trained
from faceoff.store import Store, replacing_directory

ALWAYS = {"PYTHONHASHSEED": "0"}  # converters write sets in the order of their hashes


def export(args: argparse.Namespace) -> dict[str, Any]:
    """Export in one process for each framework, then verify. Raises FaceoffError when an artifact is refused."""
    presets.model(args.model)
    rows = formats.select(args.formats)
    store = cli.store(args)
    trained = servables.read_trained(store, args.model)
    final = store.export_dir(args.model, args.version)
    if final.exists():
        progress.say(replacing(final, rows, args.formats))
    weights = trained.manifest.config["weights"]
    progress.say(f"export: {args.model} version {args.version}, {len(rows)} formats, weights trained by {weights}")
    with replacing_directory(final) as directory:
        artifacts = write(store, trained, args.version, rows, directory)
        manifest.write(
            directory,
            stage="export",
            model=args.model,
            inputs={"train": manifest.sha256(trained.directory / manifest.NAME)},
            config={"version": args.version, "formats": args.formats, "weights": weights},
            metrics={"artifacts": artifacts},
        )
    return {"directory": str(final), **verify.run(store, args.model, args.version)}


def replacing(final: Path, rows: list[formats.Format], asked: str) -> str:
    """What an export of `rows` removes at `final`, for people, said before it begins: one version holds one export."""
    said = f"export: {final} holds an earlier export; it and its verification will be replaced when this one is written"
    try:
        earlier = manifest.read(final, stage="export", command="make export").metrics["artifacts"]
    except FaceoffError:  # it is no export that anything could use
        return said
    written = {row.name for row in rows}
    lost = [row["name"] for row in earlier if row["status"] == "exported" and row["name"] not in written]
    return said + (f"; FORMATS={asked} is without {', '.join(lost)}, which it holds (VERSION= keeps both)" if lost else "")


def write(store: Store, trained: Trained, version: int, rows: list[formats.Format], directory: Path) -> list[dict[str, Any]]:
    """Write the rows into `directory`, each framework's in its own process, side by side; returns a record for each row.

    What the rows are held to beside training's golden rows is written too (export.reference_torch).
    """
    model = trained.manifest.model
    roots = ("--model", model, "--artifacts", str(store.artifacts), "--results", str(store.results))
    records: dict[str, dict[str, Any]] = {}
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        reason = formats.missing_environment(row)
        if reason is None:
            groups.setdefault((row.writer, row.environment), []).append(row.name)
        else:
            records[row.name] = row.unsupported(model, version, reason)
    running = [
        processes.start_stage(
            *(writer, *roots, "--version", str(version), "--out", str(directory), "--only", ",".join(names)),
            env=ALWAYS,
            python=formats.python(environment),
        )
        for (writer, environment), names in groups.items()
    ]
    num_writers = len(running)
    if reference_torch.needed(trained):
        running.append(processes.start_stage("export.reference_torch", "--out", str(directory), *roots))
    try:
        done = [stage.wait() for stage in running][:num_writers]
    finally:
        for stage in running:
            if stage.process.poll() is None:
                stage.stop()
    records |= {record["name"]: record for side in done for record in side["artifacts"]}
    for record in records.values():
        if record["status"] == "exported" and record["format"].startswith("saved_model"):
            # What TensorFlow Serving replays at every load. A process, since export may not import serving.
            folders = ("--saved-model", str(directory / record["file"]), "--images", str(directory))
            processes.run_stage("serving.tfserving.warmup", *roots, "--version", str(version), *folders)
    return [records[row.name] for row in rows]


def main(argv: list[str] | None = None) -> int:
    """`python -m export.export`."""
    parser = cli.Parser(prog="python -m export.export", description=__doc__)
    parser.add_model()
    parser.add_argument("--version", type=cli.positive_int, default=1, help="version of the servables (default: %(default)s)")
    formats_help = "comma list of default, all, rows and formats (default: %(default)s)"
    parser.add_argument("--formats", default="default", help=formats_help)
    parser.add_store()
    return cli.run(parser, export, argv)


if __name__ == "__main__":
    raise SystemExit(main())
