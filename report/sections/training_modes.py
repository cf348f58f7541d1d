"""Training compared, mode by mode: times, memory, accuracy on the way and what logging costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from report import formats, identity
from report.figures import studies as figures
from report.page import Block, Cell, Column, Heading, Notice, Plot, Table, Text
from report.studies import Study, optimizer


def blocks(records: Sequence[Study]) -> list[Block]:
    """A table, step times and memory, accuracy over time for each record; first whether it may be believed."""
    found: list[Block] = [Heading(text="Training compared, mode by mode", id="training-modes")]
    for record in records:
        data = record.data
        times = {m["mode"]: np.concatenate([np.asarray(run["step_ms"][1:]) for run in m["runs"]]) for m in data["modes"]}
        memory = {m["mode"]: [value / 2**20 for value in m["peak_rss_bytes"]] for m in data["modes"]}
        own = {m["mode"]: m["framework"] for m in data["modes"]}
        if data["invalid_reasons"]:
            title = f"{record.model}: INVALID, these times are not to be believed"
            found.append(Notice(title=title, items=data["invalid_reasons"], tone="bad"))
        found += [
            _mode_table(record),
            Plot(
                id=f"plot-modes-{record.model}",
                title=f"{record.model}: time and memory by mode",
                figure=figures.modes(times, memory, own),
                label="Medians: "
                + formats.listed([f"{m} {formats.milliseconds(float(np.median(v)))}" for m, v in times.items()]),
                caption="Every step but the first of every repeat, log axis; below, one point a run, the framework included.",
                legend=[identity.framework(key) for key in dict.fromkeys(own.values())],
            ),
            *_on_the_way(record),
            *(
                Text(
                    text=f"TensorBoard logs in `{cost['mode']}`: writing takes {formats.milliseconds(cost['write_ms'])} a step, "
                    f"outside the step's time; the median step is {formats.milliseconds(cost['median_step_ms_without'])} without "
                    f"logs and {formats.milliseconds(cost['median_step_ms_with'])} with them."
                )
                for cost in data["logging"]
            ),
        ]
    return found


def _on_the_way(record: Study) -> list[Plot]:
    """Test accuracy against the time that the steps took, of the first repeat of every mode."""
    lines: list[figures.Curve] = []
    seen: dict[str, int] = {}
    for mode in record.data["modes"]:
        first, key = mode["runs"][0], mode["framework"]
        if not first["evaluations"]:
            continue
        seen[key] = seen.get(key, -1) + 1
        seconds = np.cumsum(np.asarray(first["step_ms"], dtype=np.float64)) / 1e3
        steps, accuracy = (np.asarray(values) for values in zip(*first["evaluations"], strict=True))
        look = identity.variant(identity.framework(key), mode["mode"], mode["mode"], seen[key])
        lines.append(figures.Curve(series=look, label=mode["mode"], x=seconds[steps - 1], y=100 * accuracy.astype(np.float64)))
    if not lines:
        return []
    return [
        Plot(
            id=f"plot-accuracy-{record.model}",
            title=f"{record.model}: test accuracy on the way",
            figure=figures.curves(lines, x="time of the steps so far, the first included (s)", y="test accuracy (%)"),
            label="Last accuracies: "
            + formats.listed([f"{line.label} {line.y[-1]:.1f}% after {line.x[-1]:.1f} s" for line in lines]),
            caption="First repeat of every mode. Evaluating is not counted. From equal weights: the curves differ in time only.",
            legend=[line.series for line in lines],
        )
    ]


def _mode_table(record: Study) -> Table:
    data = record.data
    rows = []
    for mode in data["modes"]:
        interval = mode["ci95_ms"].get("p50")
        energy = [value for value in mode["energy_j"] if value is not None]
        reached = [value for value in mode["time_to_target_s"] if value is not None]
        rows.append(
            (
                Cell(text=mode["mode"], series=identity.framework(mode["framework"]), code=True),
                Cell(
                    text=formats.milliseconds(float(np.median(mode["first_step_ms"]))),
                    note=_several(mode["first_step_ms"], " ms"),
                ),
                Cell(text=formats.milliseconds(float(np.median(mode["compile_ms"])))),
                Cell(text=formats.milliseconds(mode["step_ms"]["p50"]), note=formats.interval(*interval) if interval else ""),
                Cell(text=formats.milliseconds(mode["step_ms"]["p99"])),
                Cell(text=formats.number(float(np.mean(mode["examples_per_s"]))), note=_several(mode["examples_per_s"])),
                Cell(
                    text=formats.seconds(float(np.median(reached)))
                    if reached
                    else formats.NONE
                    if data["target_accuracy"] is None
                    else "not reached"
                ),
                Cell(text=formats.size(max(mode["peak_rss_bytes"]))),
                Cell(text=f"{np.mean(energy):.0f} J" if energy else formats.NONE),
                Cell(text=formats.small(mode["max_abs_loss_difference"])),
            )
        )
    target = data["target_accuracy"]
    titles = (
        *("First step", "of it compiling", "Step, median", "Step, p99", "Examples/s"),
        *(
            "To target" if target is None else f"To {formats.percent(target, 0)} accuracy",
            "Peak memory",
            "GPU energy",
            "Loss apart",
        ),
    )
    return Table(
        caption=f"{record.model} on {data['dataset']['name']}: {formats.plural(data['num_steps'], 'step')} of "
        f"{data['batch_size']}, {optimizer(data['optimizer'])}, {data['precision']}, {data['device']}",
        columns=(Column(title="Mode"), *(Column(title=title, numeric=True) for title in titles)),
        rows=rows,
        note=f"{formats.plural(data['repeats'], 'repeat')} in the order {' '.join(data['order'])}; each run alone in its own "
        f"process with {formats.plural(data['threads'], 'thread')}. All modes start from the same weights and see the same "
        "batches. Compiling is what the first step takes more than the median. Steps of a run are not independent, so the "
        "intervals are somewhat narrow.",
    )


def _several(values: Sequence[float], unit: str = "") -> str:
    return f"{formats.number(min(values))} to {formats.number(max(values))}{unit}"
