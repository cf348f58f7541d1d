"""Native training, each framework its own way: the equivalence verdict of every model, or why it has none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from report import formats, identity
from report.figures import studies as figures
from report.page import Block, Cell, Column, Heading, Plot, Table, Tone
from report.studies import Study, optimizer

NUM_COLUMNS = 8


def blocks(records: Sequence[Study]) -> list[Block]:
    """The verdict of every model, then the curves of every seed.

    `records` are studies and, of models that have none, their lock-step records: these have no verdict, and the reason.
    """
    rows, tests = [], []
    judged = [record for record in records if record.path.stem == "study"]
    for record in judged:
        data, result = record.data, record.data["equivalence"]
        tone: Tone = "good" if data["verdict"].startswith("equivalent") else "bad" if data["verdict"] == "different" else "warn"
        low, high = (100 * value for value in result["interval"])
        difference, margin = 100 * result["difference"], 100 * result["margin"]
        needed = result.get("advice")  # older records have none
        advice = f"about {formats.plural(needed, 'seed')} would do" if needed else ""
        rows.append(
            (
                Cell(text=record.model, note=f"{data['dataset']['name']}, {optimizer(data['optimizer'])}"),
                Cell(text=formats.count(len(data["seeds"]))),
                *(
                    Cell(text=formats.percent(float(np.mean(data["accuracy"][key])), 2), note=_spread(data["accuracy"][key]))
                    for key in identity.FRAMEWORKS
                ),
                Cell(text=f"{difference:+.2f}", note=f"{low:+.2f} to {high:+.2f}"),
                Cell(text=f"±{margin:g}"),
                Cell(text=formats.number(result["p_value"])),
                Cell(text=data["verdict"], note=advice, tone=tone),
            )
        )
        tests.append(figures.Judged(label=record.model, difference=difference, low=low, high=high, margin=margin))
    rows += [_without(record) for record in records if record not in judged]
    titles = ("Seeds", *identity.FRAMEWORKS.values(), "Difference, points", "Margin, points", "TOST p")
    table = Table(
        caption="Equally accurate? Test accuracy, each framework with its own initializers, shuffling and defaults",
        columns=(Column(title="Model"), *(Column(title=title, numeric=True) for title in titles), Column(title="Verdict")),
        rows=rows,
        note="Two one-sided Welch tests; the interval is the one that they compare with the margin"
        + (f" ({100 * (1 - 2 * judged[0].data['equivalence']['alpha']):.0f} %). " if judged else ". ")
        + "The verdict speaks of the mean over seeds on this test set. That no difference was found would not be one.",
    )
    heading = Heading(text="Each its own way: equally accurate?", id="training-native")
    if not judged:
        return [heading, table]
    plot = Plot(
        id="plot-equivalence",
        title="Difference of accuracy against the margin",
        figure=figures.equivalence(tests),
        label="Intervals of the accuracy difference: "
        + formats.listed([f"{test.label} {test.low:+.2f} to {test.high:+.2f} within ±{test.margin:g}" for test in tests]),
        caption="Grey: the margin that was stated beforehand. An interval that lies inside it is shown to be equivalent.",
    )
    return [heading, table, plot, *map(_seeds, judged)]


def _without(record: Study) -> tuple[Cell, ...]:
    """The row of a model that trained in lock-step only."""
    why = record.data["native_not_compared_because"]
    none = [Cell(text=formats.NONE)] * (NUM_COLUMNS - 2)
    if why:
        return Cell(text=record.model), *none, Cell(text="none", note=f"it {why}")
    return Cell(text=record.model), *none, Cell(text="not tried", note=f"{record.command} TRAIN=native", tone="warn")


def _seeds(record: Study) -> Plot:
    lines = [
        figures.Curve(
            series=identity.framework(key),
            label=f"{identity.framework(key).label}, seed {seed}",
            x=np.arange(1, len(losses) + 1, dtype=np.float64),
            y=np.asarray(losses, dtype=np.float64),
            opacity=0.5,
        )
        for key in identity.FRAMEWORKS
        for seed, losses in zip(record.data["seeds"], record.data["losses"][key], strict=True)
    ]
    return Plot(
        id=f"plot-seeds-{record.model}",
        title=f"{record.model}: loss of every seed, each framework its own way",
        figure=figures.curves(lines, x="optimizer step", y="loss"),
        label=f"Training loss of {record.model} against optimizer step, {len(record.data['seeds'])} seeds a side.",
        caption="Own initial weights and own order of the rows: the curves are alike only as far as the frameworks learn alike.",
        legend=[identity.framework(key) for key in identity.FRAMEWORKS],
    )


def _spread(values: Sequence[float]) -> str:
    return f"{formats.percent(min(values), 2)} to {formats.percent(max(values), 2)}"
