"""Compare two runs of `make compare` on one machine, server by server; a regression beyond the noise floor fails the build.

    python -m report.compare_runs --a before --b after

Each server and tuning of run B is held against itself in run A, with the statistics of a comparison (faceoff.verdict): the visits
of each run are the values, the A/A visits of both give the noise floor, and the intervals hold together. A regression is a
figure of B that is worse beyond the floor. Writes results/<B>/against-<A>.html and .md.

Exit codes: 0 no regression, 1 a regression (its sentences in `regressions`), 2 not two comparable runs, 3 a run is INVALID or was
made on another machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from faceoff import cli, progress
from faceoff.errors import FaceoffError, InvalidError, MissingStageError, UsageError
from faceoff.store import Store, write_atomic
from faceoff.verdict import Comparison
from faceoff.visits import Cell, Value

SAME_RATE = 0.05  # open-loop rates further apart than this are two different questions
MACHINE = ("cpu", "logical_cores", "usable_cores", "gpus")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One run: what it measured, on what, and whether it may be believed."""

    name: str
    values: list[Value]
    machine: dict[str, Any]
    invalid_reasons: list[str]


def compare_runs(args: argparse.Namespace) -> dict[str, Any]:
    """Compare, write both files; returns the sentences. Raises FaceoffError for a regression, InvalidError for an INVALID run."""
    from report import html, markdown
    from report.sections import regression

    store = cli.store(args)
    if not args.a or not args.b or args.a == args.b:
        raise UsageError(f"found A={args.a} and B={args.b}: expected the names of two runs of make compare")
    before, after = (read(store, name) for name in (args.a, args.b))
    comparisons, unmatched = judge(before, after)
    if not comparisons:
        raise UsageError(f"{args.a} and {args.b} have no figure in common: {'; '.join(unmatched) or 'no VALID visits'}")
    reasons = doubts(before, after)
    page = regression.page(before.name, after.name, comparisons, unmatched, reasons)
    stem = store.run_dir(args.b) / f"against-{args.a}"
    paths = {"report": stem.with_name(f"{stem.name}.html"), "markdown": stem.with_name(f"{stem.name}.md")}
    for path, text in zip(paths.values(), (html.render(page), markdown.render(page)), strict=True):
        write_atomic(path, text)
    told = {kind: [c.sentence for c in comparisons if c.verdict == verdict] for kind, verdict in regression.KINDS.items()}
    for kind, sentences in told.items():
        for sentence in sentences:
            progress.say(f"{kind.replace('_', ' ')}: {sentence}")
    details = {"a": args.a, "b": args.b, **told, "not_compared": unmatched, **{name: str(path) for name, path in paths.items()}}
    if reasons:
        raise InvalidError(f"not to be believed: {'; '.join(reasons)}", details)
    if regressions := told["regressions"]:
        raise FaceoffError(f"{len(regressions)} regressions beyond the noise floor, first: {regressions[0]}", details)
    return details


def read(store: Store, name: str) -> Side:
    """A run of `make compare`. Raises MissingStageError for any other, CorruptError for a damaged one."""
    from faceoff import visits
    from report import records

    directory = store.run_dir(name)
    path, command = directory / "compare.json", f"make compare RUN={name}"
    run = records.load(name, directory)
    raw = records.optional(path, dict, command)
    if raw is None:
        raise MissingStageError(f"found no {path}: expected a run of make compare, whose visits are repeated; run: {command}")
    with records.reading(path, command):
        return Side(
            name=name,
            values=visits.values(run.summary, raw),
            machine=run.summary["environment"]["machine"],
            invalid_reasons=[str(reason) for reason in raw.get("invalid_reasons") or []],
        )


def judge(before: Side, after: Side) -> tuple[list[Comparison], list[str]]:
    """Every figure both runs have, b against a; and what could not be compared, in sentences."""
    from faceoff import verdict, visits

    sides = [_grouped(side.values, "ab") for side in (before, after)]
    pairs, unmatched = [], []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        ours, theirs = (side.get(key, []) for side in sides)
        cell, server, tuning = key
        what = f"{verdict.METRICS[cell.metric].words} of {verdict.label(server)} [{cell.protocol} ({cell.encoding}), {tuning}]"
        if not ours or not theirs:
            unmatched.append(f"{what}: only in {after.name if not ours else before.name}")
        elif not _alike(ours[0].cell.at, theirs[0].cell.at):
            unmatched.append(f"{what}: {ours[0].cell.at} in {before.name}, {theirs[0].cell.at} in {after.name}")
        else:
            found = visits.pair(ours[0].cell, tuning, (before.name, after.name), ours, theirs)
            pairs.append(replace(found, at=f"{verdict.label(server)}, {found.at}"))
    floors = []
    for side in (before, after):
        own, again = _grouped(side.values, "ab"), _grouped(side.values, "aa")
        floors += [visits.pair(k[0], k[2], (k[1], k[1]), own.get(k, []), values) for k, values in again.items()]
    told = verdict.judge([*pairs, *floors])
    return [c for c in told if c.kind == "ab"], [*unmatched, *verdict.unjudged(pairs)]


def doubts(before: Side, after: Side) -> list[str]:
    """Why the comparison is not to be believed; [] for none."""
    reasons = [f"run {side.name} is INVALID: {side.invalid_reasons[0]}" for side in (before, after) if side.invalid_reasons]
    different = [name for name in MACHINE if before.machine.get(name) != after.machine.get(name)]
    told = [f"{name} {before.machine.get(name)} and {after.machine.get(name)}" for name in different]
    return [*reasons, *([f"two machines: {', '.join(told)}"] if told else [])]


def _grouped(values: Sequence[Value], role: str) -> dict[tuple[Cell, str, str], list[Value]]:
    """By figure, server and tuning; the load is left out of the key, for two runs fix their own rates."""
    found: dict[tuple[Cell, str, str], list[Value]] = {}
    for value in values:
        if value.role == role:
            found.setdefault((replace(value.cell, at=""), value.server, value.tuning), []).append(value)
    return found


def _alike(a: str, b: str) -> bool:
    """Whether two loads in words are the same one: equal, or rates within `SAME_RATE`."""
    if a == b or not (a.endswith(" requests/s") and b.endswith(" requests/s")):
        return a == b
    low, high = sorted(float(text.split(" ")[0]) for text in (a, b))
    return high <= low * (1 + SAME_RATE)


def main(argv: list[str] | None = None) -> int:
    """`python -m report.compare_runs`."""
    parser = cli.Parser(prog="python -m report.compare_runs", description=__doc__)
    parser.add_argument("--a", required=True, help="the run before: a name under results/")
    parser.add_argument("--b", required=True, help="the run after, which is judged")
    parser.add_store()
    return cli.run(parser, compare_runs, argv)


if __name__ == "__main__":
    raise SystemExit(main())
