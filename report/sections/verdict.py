"""The answer: which server is faster, by how much, how sure that is, and what cannot be told."""

from __future__ import annotations

from typing import Any

from faceoff import verdict, visits
from faceoff.verdict import METRICS
from report import experiment, formats, identity
from report.experiment import FULL, Experiment
from report.figures import comparison as figures
from report.page import Block, Cell, Column, Heading, Notice, Plot, Section, Table, Text
from report.records import reading
from report.sections import fairness

HEADLINE = "p99"  # what users feel; its sentence stands at the top of the page
_ORDER = list(METRICS)


def lead(found: Experiment) -> list[Block]:
    """The verdict in a sentence with its interval, and how the others came out."""
    with reading(found.run.directory / "summary.json", "make compare"):
        told = found.between("ab")
        if not told:
            return [Notice(title="No verdict: no two servers have VALID visits enough", items=_unjudged(found), tone="bad")]
        # best against best is what a user can get; as installed stands beside it
        first = sorted(
            (c for c in told if c["metric"] == HEADLINE), key=lambda c: (c["tuning"] != "best", c["protocol"] != "rest")
        )
        title = first[0]["sentence"] if first else told[0]["sentence"]
        return [Notice(title=title, text=_counts(found, told), items=[c["sentence"] for c in first[1:]], tone="info")]


def section(found: Experiment) -> Section:
    """Every comparison, the server against itself, and what moved while it was measured."""
    with reading(found.run.directory / "summary.json", "make compare"):
        told, itself = found.between("ab"), found.between("aa")
        blocks: list[Block] = [*fairness.invalid(found), Text(text=_method(found))]
        if found.quick and any(c["verdict"] == "cannot_tell" for c in told):
            blocks.append(
                Notice(
                    title=f"`PROFILE={found.raw['profile']}`: {formats.plural(found.num_repeats, 'repeat')}",
                    text=f"The fewer they are, the larger is what they can find: {FULL} repeats each visit more often.",
                )
            )
        for a, b in dict.fromkeys((c["a"], c["b"]) for c in told):
            mine = [c for c in told if (c["a"], c["b"]) == (a, b)]
            blocks.append(_forest(found, mine, a, b))
            for tuning in dict.fromkeys(c["tuning"] for c in mine):
                blocks.append(_table(tuning, [c for c in mine if c["tuning"] == tuning], a, b))
        if missing := _unjudged(found):
            blocks.append(Notice(title="Not compared", items=missing, tone="warn"))
        blocks.append(Heading(text="A server against itself", id="verdict-aa"))
        blocks += _against_itself(found, itself)
        blocks.append(Heading(text="Did anything move meanwhile?", id="verdict-drift"))
        blocks += _drift(found)
    return Section(id="verdict", title="The verdict", short="Verdict", blocks=blocks)


def _method(found: Experiment) -> str:
    number = max([int(c["num_comparisons"]) for c in found.comparisons], default=1)
    return (
        f"Each server was deployed {formats.plural(found.num_repeats, 'time')} with each of its settings, alone, in an "
        "order drawn "
        f"from seed {found.raw['seed']}; one such visit is one value of each figure. A ratio's interval is Welch's t of the "
        f"logarithms, and wide enough for all {number} intervals together to hold the truth in 95 of 100 such experiments "
        "(Bonferroni). **Faster** needs an interval without 1 and a ratio beyond the noise floor; **no difference** an "
        "interval within it, or within 5% where it is lower."
    )


def _counts(found: Experiment, told: list[dict[str, Any]]) -> str:
    """`Of 20 comparisons tfserving-embedded is better in 9, TorchServe in none; no difference in 3, and 8 cannot be told.`"""
    pairs = list(dict.fromkeys((c["a"], c["b"]) for c in told))
    wins = {server: 0 for pair in pairs for server in pair}
    for c in told:
        if c["verdict"] in ("a_faster", "b_faster"):
            wins[c["a"] if c["verdict"] == "a_faster" else c["b"]] += 1
    same, open_ = (sum(c["verdict"] == name for c in told) for name in ("no_difference", "cannot_tell"))
    ranked = sorted(wins.items(), key=lambda item: -item[1])
    better = ", ".join(f"{identity.server(s).label} is better in {n or 'none'}" for s, n in ranked)
    rest = f"no difference in {same or 'none'}, and {open_ or 'none'} cannot be told"
    short = f" {FULL} repeats more." if found.quick and open_ else ""
    return f"Of {formats.plural(len(told), 'comparison')} {better}; {rest}.{short}"


def _forest(found: Experiment, mine: list[dict[str, Any]], a: str, b: str) -> Plot:
    labels = identity.server(a).label, identity.server(b).label
    ratios = []
    for c in mine:
        # the better side is the one with the larger value, or with the smaller one
        higher = METRICS[c["metric"]].higher_is_better
        middle, low, high = (
            (c["ratio"], c["ci_low"], c["ci_high"]) if higher else (1 / c["ratio"], 1 / c["ci_high"], 1 / c["ci_low"])
        )
        winner = {"a_faster": a, "b_faster": b}.get(c["verdict"])
        ratios.append(
            figures.Ratio(
                panel=identity.way(c["protocol"], c["encoding"]),
                row=f"{METRICS[c['metric']].short} · {experiment.short(c['tuning'])}",
                advantage=middle,
                low=low,
                high=high,
                noise_floor=c["noise_floor"],
                winner=identity.server(winner) if winner else None,
                told=c["sentence"],
            )
        )
    ratios.sort(key=lambda r: (r.panel.startswith("gRPC"), r.panel))
    return Plot(
        id=f"plot-verdict-{found.servers.index(a)}-{found.servers.index(b)}",
        title=f"{labels[0]} against {labels[1]}",
        figure=figures.forest(ratios, labels),
        label="; ".join(c["sentence"] for c in mine),
        caption=f"Right of 1, {labels[0]} is better; left of 1, {labels[1]}. Whiskers hold the truth in all comparisons together "
        "95 times of 100; one with an arrow goes on beyond the plot. The grey bar is the noise floor of that figure. A filled "
        "marker is the faster server's, an open circle no one's.",
        legend=list(dict.fromkeys(ratio.winner or figures.OPEN for ratio in ratios)),
    )


def _table(tuning: str, mine: list[dict[str, Any]], a: str, b: str) -> Table:
    sides = identity.server(a), identity.server(b)
    ordered = sorted(mine, key=lambda c: (c["protocol"] != "rest", c["encoding"], _ORDER.index(c["metric"])))
    return Table(
        caption=f"{_tuning(tuning).capitalize()}: {sides[0].label} and {sides[1].label}",
        columns=(
            Column(title="Figure"),
            *(Column(title=side.label, numeric=True) for side in sides),
            Column(title="Ratio", numeric=True),
            Column(title="Noise floor", numeric=True),
            Column(title="Verdict"),
        ),
        rows=[
            (
                Cell(text=f"{METRICS[c['metric']].words}", note=f"{identity.way(c['protocol'], c['encoding'])}, {c['at']}"),
                *(_value(c, side) for side in ("a", "b")),
                Cell(text=formats.number(c["ratio"]), note=formats.times(c["ci_low"], c["ci_high"])),
                Cell(text=formats.noise_floor(c["noise_floor"])),
                _verdict(c),
            )
            for c in ordered
        ],
        note="Figures are geometric means over visits, below them the smallest and largest visit; the ratio is "
        f"{sides[0].label}'s over "
        f"{sides[1].label}'s with its interval.",
    )


def _value(c: dict[str, Any], side: str) -> Cell:
    values, unit = c[f"{side}_values"], METRICS[c["metric"]].unit
    product = 1.0
    for value in values:
        product *= value ** (1 / len(values))
    note = f"{formats.number(min(values))}–{formats.number(max(values))}, {formats.plural(len(values), 'visit')}"
    return Cell(text=f"{formats.number(product)} {unit}", note=note)


def _verdict(c: dict[str, Any]) -> Cell:
    if c["verdict"] in ("a_faster", "b_faster"):
        winner = identity.server(c["a"] if c["verdict"] == "a_faster" else c["b"]).label
        return Cell(text=f"{winner} {METRICS[c['metric']].wins}", tone="info")
    if c["verdict"] == "no_difference":
        return Cell(text="no difference", tone="good")
    more = c["more_repeats"]
    needs = "more than 100 more repeats" if more is None else f"about {formats.plural(more, 'more repeat')}"
    return Cell(text="cannot tell", tone="warn", note=f"needs {needs}")


def _against_itself(found: Experiment, itself: list[dict[str, Any]]) -> list[Block]:
    if not itself:
        return [
            Notice(
                title="No A/A run: there is no noise floor",
                text=f"A difference can be found without one, its absence cannot be shown. {FULL} visits every server "
                "against itself.",
                tone="warn",
            )
        ]
    different = [c for c in itself if c["verdict"] != "no_difference"]
    blocks: list[Block] = [
        Text(
            text="Extra visits of a server are compared with its other visits as if they were a rival's. Nothing differs, "
            "so the far end "
            "of each interval is what this experiment cannot tell from nothing: the noise floor of that figure, for all servers."
        )
    ]
    if different:
        items = [c["sentence"] for c in different]
        blocks.append(Notice(title="A server differs from itself: its visits were not alike", items=items, tone="bad"))
    blocks.append(
        Table(
            caption="A/A: the same server on both sides",
            columns=(
                Column(title="Server"),
                Column(title="Figure"),
                Column(title="Ratio", numeric=True),
                Column(title="Noise floor", numeric=True),
                Column(title=""),
            ),
            rows=[
                (
                    Cell(text=identity.server(c["a"]).label, series=identity.server(c["a"]), note=_tuning(c["tuning"])),
                    Cell(text=METRICS[c["metric"]].words, note=f"{identity.way(c['protocol'], c['encoding'])}, {c['at']}"),
                    Cell(text=formats.number(c["ratio"]), note=formats.times(c["ci_low"], c["ci_high"])),
                    Cell(text=formats.noise_floor(c["noise_floor"])),
                    Cell(text="as it should be", tone="good") if c not in different else Cell(text="differs", tone="bad"),
                )
                for c in itself
            ],
            note=""
            if len({c["a"] for c in itself}) == len(found.servers)
            else f"Only some servers were; {FULL} does it with each.",
        )
    )
    return blocks


def _drift(found: Experiment) -> list[Block]:
    moved = visits.drifts(found.values)
    if not moved:
        return [
            Text(
                text="No: none of the figures rose or fell from the first visit to the last more than chance explains (a "
                "common slope "
                "over all servers, 5% for all figures together)."
            )
        ]
    items = [
        f"{METRICS[cell.metric].words}, {identity.way(cell.protocol, cell.encoding)}, {cell.at}: "
        f"{formats.number(drift.factor)} times at "
        f"the last visit what it was at the first ({formats.interval(drift.low, drift.high)})"
        for cell, drift in moved
    ]
    return [
        Notice(
            title="Yes: figures drifted during the experiment, whichever server's turn it was",
            text="The random order spreads a drift over all servers, so it widens the intervals rather than favouring one.",
            items=items,
            tone="warn",
        )
    ]


def _unjudged(found: Experiment) -> list[str]:
    return verdict.unjudged(visits.pairs(found.values, found.servers))


def _tuning(name: str) -> str:
    return verdict.TUNINGS.get(name, name)
