"""Build the report of one run: results/<run>/report.html and report.md.

    python -m report.build --run demo

Reads only results/<run>/: summary.json, samples/*.parquet, records/ and training/. A missing record leaves a notice in its
section; a summary that contradicts its raw rows is a fault, and nothing is written.
"""

from __future__ import annotations

import argparse
from typing import Any

from faceoff import cli, progress
from faceoff.errors import MissingStageError
from faceoff.store import Store, write_atomic


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Read the run, write both files; returns their paths."""
    from report import compose, html, markdown, records

    store = cli.store(args)
    run = args.run or newest_run(store)
    directory = store.run_dir(run)
    page = compose.page(records.load(run, directory))
    paths = {"report": directory / "report.html", "markdown": directory / "report.md"}
    texts = {"report": html.render(page), "markdown": markdown.render(page)}
    for name, path in paths.items():
        write_atomic(path, texts[name])
    progress.say(f"report: {paths['report']} ({len(texts['report']) / 2**20:.1f} MiB, opens offline)")
    return {name: str(path) for name, path in paths.items()}


def newest_run(store: Store) -> str:
    """The run whose summary or training was written last. Raises MissingStageError when there is none."""
    records = [*store.results.glob("*/summary.json"), *store.results.glob("*/training/*/*/*.json")]
    if not records:
        raise MissingStageError(f"found no run in {store.results}: expected results/<run>/summary.json; run: make loadtest")
    newest = max(records, key=lambda path: path.stat().st_mtime).relative_to(store.results).parts[0]
    progress.say(f"report: run {newest}, the newest")
    return newest


def main(argv: list[str] | None = None) -> int:
    """`python -m report.build`."""
    parser = cli.Parser(prog="python -m report.build", description=__doc__)
    parser.add_argument("--run", default="", help="name of a run under results/; default: the newest")
    parser.add_store()
    return cli.run(parser, build, argv)


if __name__ == "__main__":
    raise SystemExit(main())
