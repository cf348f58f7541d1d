"""A comparison as a page for benchmarks/: <model>_<hardware>_<date>.md, with all that it takes to judge and repeat it.

    python -m report.benchmark --run compare

The report's own sections without plots and without what is about training; before them the machine and versions, after the
verdict the winners' settings and every visit in numbers. An INVALID run makes a page too, which says so first.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceoff import cli, progress
from faceoff.errors import UsageError
from faceoff.store import write_atomic

if TYPE_CHECKING:
    from report.page import Block, Page
    from report.records import Run

SECTIONS = ("verdict", "compared", "throughput", "breakdown", "ways", "tuning", "validity", "environment")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the page; returns its path. Raises UsageError for a run that compares nothing."""
    from report import markdown, records
    from report.build import newest_run

    store = cli.store(args)
    run = args.run or newest_run(store)
    found = records.load(run, store.run_dir(run))
    path = args.out / name(found)
    write_atomic(path, markdown.render(page(found)))
    progress.say(f"benchmarks page: {path}")
    return {"page": str(path)}


def page(run: Run) -> Page:
    """The page of one comparison."""
    from report import compose, experiment, measurements
    from report.page import Plot
    from report.sections import benchmark, fairness

    compared = experiment.load(run, measurements.load(run)) if run.summary else None
    if compared is None:
        raise UsageError(f"run {run.name} is no comparison: expected one that make compare wrote (set RUN=...)")
    whole = compose.page(run)
    sections = [
        replace(section, blocks=[block for block in section.blocks if not isinstance(block, Plot) and not _long(block)])
        for section in whole.sections
        if section.id in SECTIONS
    ]
    sections.insert(1, benchmark.winners(compared))
    sections.insert(1 + next(at for at, section in enumerate(sections) if section.id == "throughput"), benchmark.visits(compared))
    lead = [*fairness.standing(compared), *whole.lead, benchmark.versions(run)]
    return replace(whole, lead=lead, sections=sections)


def _long(block: Block) -> bool:
    """The record of each measurement by itself: thousands of lines, which the visits' settings say in a few."""
    from report.page import Code
    from report.sections import environment

    return isinstance(block, Code) and block.label == environment.OF_EACH


def name(run: Run) -> str:
    """E.g. cnn_intel-xeon-2.80ghz-2-cores_2026-11-28.md. Raises UsageError for a run whose summary does not say."""
    try:
        machine = run.summary["environment"]["machine"]
        model, day = run.summary["model"], str(run.summary["created"])[:10]
        cpu = re.sub(r"\((r|tm)\)|\b(cpu|processor)\b|@", " ", str(machine["cpu"]).lower())
        hardware = f"{cpu} {machine['usable_cores']} cores"
    except (KeyError, TypeError) as error:
        raise UsageError(f"run {run.name} has no record of {error}: expected a run of make compare") from error
    return "_".join(re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-.") for part in (str(model), hardware, day)) + ".md"


def main(argv: list[str] | None = None) -> int:
    """`python -m report.benchmark`."""
    parser = cli.Parser(prog="python -m report.benchmark", description=__doc__)
    parser.add_argument("--run", default="", help="name of a run under results/; default: the newest")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the page (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, build, argv)


if __name__ == "__main__":
    raise SystemExit(main())
