"""The page of two runs compared: what became worse, what became better, what cannot be told."""

from __future__ import annotations

from collections.abc import Sequence

from faceoff.verdict import METRICS, TUNINGS, Comparison
from report import formats, identity
from report.page import Block, Cell, Column, Notice, Page, Section, Table, Text, Tone

# what the command prints -> the verdict of `b against a` that it stands for
KINDS = {
    "regressions": "a_faster",
    "improvements": "b_faster",
    "no_difference": "no_difference",
    "cannot_tell": "cannot_tell",
}
_BADGES: dict[str, tuple[str, Tone]] = {
    "a_faster": ("worse", "bad"),
    "b_faster": ("better", "info"),
    "no_difference": ("no difference", "good"),
    "cannot_tell": ("cannot tell", "warn"),
}


def page(before: str, after: str, comparisons: Sequence[Comparison], unmatched: Sequence[str], reasons: Sequence[str]) -> Page:
    """`after` held against `before`."""
    worse = [c.sentence for c in comparisons if c.verdict == "a_faster"]
    blocks: list[Block] = []
    if reasons:
        blocks.append(Notice(title="INVALID: not to be believed", items=reasons, tone="bad"))
    if worse:
        title = f"{formats.plural(len(worse), 'regression')} beyond the noise floor"
        blocks.append(Notice(title=title, items=worse, tone="bad"))
    else:
        blocks.append(Notice(title="No regression beyond the noise floor was found", tone="good" if not reasons else "warn"))
    counts = {kind: sum(c.verdict == verdict for c in comparisons) for kind, verdict in KINDS.items()}
    blocks.append(
        Text(
            text=f"Of {formats.plural(len(comparisons), 'figure')} {counts['regressions']} are worse, "
            f"{counts['improvements']} better, "
            f"{counts['no_difference']} show no difference, and {counts['cannot_tell']} cannot be told. What cannot be told "
            "is no "
            "proof that nothing became worse: its interval says how much could have."
        )
    )
    if unmatched:
        blocks.append(Notice(title="Not compared", items=unmatched, tone="warn"))
    tables: list[Block] = [_table(before, after, name, group) for name, group in _by_server(comparisons).items()]
    return Page(
        run=after,
        title=f"{after} against {before}",
        subtitle="Each server against itself in an earlier run on the same machine",
        lead=blocks,
        sections=[Section(id="figures", title="Figure by figure", short="Figures", blocks=tables)],
    )


def _by_server(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    found: dict[str, list[Comparison]] = {}
    for c in comparisons:
        found.setdefault(f"{c.at.split(', ')[0]}, {TUNINGS.get(c.tuning, c.tuning)}", []).append(c)
    return found


def _table(before: str, after: str, name: str, comparisons: Sequence[Comparison]) -> Table:
    return Table(
        caption=name,
        columns=(
            Column(title="Figure"),
            Column(title=f"{before} over {after}", numeric=True),
            Column(title="Noise floor", numeric=True),
            Column(title=f"{after} is"),
        ),
        rows=[
            (
                Cell(
                    text=METRICS[c.metric].words,
                    note=f"{identity.way(c.protocol, c.encoding)}, {c.at.split(', ', 1)[-1]}; {len(c.a_values)} and "
                    f"{len(c.b_values)} visits",
                ),
                Cell(text=formats.number(c.ratio), note=formats.times(c.ci_low, c.ci_high)),
                Cell(text=formats.noise_floor(c.noise_floor)),
                _badge(c),
            )
            for c in comparisons
        ],
        note="The interval holds with those of all other figures together in 95 of 100 such comparisons. It knows how a "
        "server differs from "
        "visit to visit, not how a machine differs from day to day.",
    )


def _badge(c: Comparison) -> Cell:
    text, tone = _BADGES[c.verdict]
    needs = f"needs about {formats.plural(c.more_repeats, 'more repeat')} a run" if c.more_repeats is not None else ""
    return Cell(text=text, tone=tone, note=needs)
