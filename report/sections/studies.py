"""Trainings over several models: lock-step, native and its equivalence verdict, modes, data parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from report import formats, identity, studies
from report.figures import studies as figures
from report.figures import training as curves
from report.page import Block, Cell, Column, Heading, Notice, Plot, Table
from report.records import Run, reading
from report.sections import training_modes, training_native
from report.studies import Study, optimizer


def blocks(run: Run) -> list[Block]:
    """What there is of each kind; nothing where a kind has no record."""
    found: list[Block] = []
    makers: list[tuple[str, Callable[[Sequence[Study]], list[Block]]]] = [
        ("lockstep", _lockstep),
        ("study", training_native.blocks),
        ("modes", training_modes.blocks),
        ("distributed", _distributed),
    ]
    for kind, make in makers:
        records = studies.load(run, kind)
        if kind == "study":  # the models without one stand in its table too, each with the reason
            there = {record.model for record in records}
            records += [record for record in studies.load(run, "lockstep") if record.model not in there]
        if records:
            # Each maker reads record by record; the first one that is malformed is named by the last path tried.
            for record in records:
                with reading(record.path, record.command):
                    make([record])
            found += make(records)
    return found


def _lockstep(records: Sequence[Study]) -> list[Block]:
    rows, plots = [], []
    for record in records:
        lockstep, config = record.data["metrics"]["lockstep"], record.data["config"]
        apart, exact = lockstep["first_step_apart"], lockstep.get("float64")
        accuracy = record.data["metrics"]["test_accuracy"]
        rows.append(
            (
                Cell(
                    text=record.model,
                    note=f"{config['dataset']['name']}, {optimizer(config['optimizer'])}, {config['precision']}",
                ),
                Cell(text=formats.count(record.data["metrics"]["num_steps"])),
                Cell(text=formats.small(lockstep["max_abs_loss_difference"])),
                Cell(text=formats.small(lockstep["bound"])),
                Cell(text="never" if apart is None else f"step {apart + 1}"),
                Cell(
                    text=formats.small(exact["max_abs_loss_difference"]) if exact else formats.NONE,
                    note=_judged(exact) if exact else "",
                ),
                *(Cell(text=formats.percent(accuracy[key])) for key in identity.FRAMEWORKS),
                _equality(lockstep),
            )
        )
        losses = {key: np.asarray(values, dtype=np.float64) for key, values in record.data["losses"].items()}
        if not all(len(values) for values in losses.values()):
            continue  # a model without weights takes no step
        plots.append(
            Plot(
                id=f"plot-lockstep-{record.model}",
                title=f"{record.model}: loss of every step, side by side",
                figure=curves.losses(losses, 1e-4),
                label=f"Training loss of {record.model} against optimizer step in both frameworks.",
                caption="Same initial weights, same batches, same optimizer.",
                legend=[identity.framework(key) for key in losses],
            )
        )
    table = Table(
        caption="Lock-step: how far the losses of the two frameworks are apart",
        columns=(
            Column(title="Model"),
            *(
                Column(title=title, numeric=True)
                for title in ("Steps", "Largest difference", "Stated bound", "More than 10⁻⁴ apart", "The same in float64")
            ),
            *(Column(title=f"Accuracy, {label}", numeric=True) for label in identity.FRAMEWORKS.values()),
            Column(title="Verdict"),
        ),
        rows=rows,
        note="In float32 the bound holds over the first 200 steps, and the first 3 are held to 10⁻⁴ in every model. Losses that "
        "part there are trained once more in float64, whole, where a rounding is 2²⁹ times finer: what parts there too is a "
        "difference of method and a fault. So are trained weights that are not equal there: batch normalization's running "
        "statistics, which no loss reads, are compared over some steps of every model that has them. A model without right "
        "answers has no accuracy.",
    )
    return [Heading(text="In lock-step, model by model", id="training-lockstep"), table, *_cost(records), *plots]


def _judged(exact: dict[str, Any]) -> str:
    """Over how many steps float64 was held to what: a model that did not part takes a few, for its running statistics."""
    steps = f"{formats.plural(exact['bound_steps'], 'step')}, " if "bound_steps" in exact else ""
    return f"{steps}bound {formats.small(exact['bound'])}"


def _equality(lockstep: dict[str, Any]) -> Cell:
    """Whether both frameworks did the same: training refuses what did not, so that no row can say so by oversight."""
    if lockstep["first_step_beyond_bound"] is not None:
        return Cell(text="not equal", tone="bad")
    return Cell(text="equal", note="until rounding parts them" if lockstep["first_step_apart"] is not None else "", tone="good")


def _cost(records: Sequence[Study]) -> list[Block]:
    """Step times of every model as boxes, memory as points: of one training on each side, in the background of no other."""
    times, memory, own = {}, {}, {}
    for record in records:
        for key, side in record.data["sides"].items():
            label = f"{record.model}, {identity.framework(key).label}"
            if len(side["step_ms"]) > 1:
                times[label] = np.asarray(side["step_ms"][1:], dtype=np.float64)
                memory[label], own[label] = [side["peak_rss_bytes"] / 2**20], key
    if not times:
        return []
    others = max((side["others_percent"] or 0.0) for record in records for side in record.data["sides"].values())
    return [
        Plot(
            id="plot-lockstep-cost",
            title="Time and memory of every model",
            figure=figures.modes(times, memory, own),
            label="Median step times: "
            + formats.listed([f"{name} {formats.milliseconds(float(np.median(v)))}" for name, v in times.items()]),
            caption="Every step but the first, which compiles, log axis; below, the peak memory of the process, the framework "
            f"included. One training on each side, while other processes used up to {others:.0f}% of the cores' time: to "
            "compare speed, repeat them in turn with `MODES=default`.",
            legend=[identity.framework(key) for key in dict.fromkeys(own.values())],
        )
    ]


def _distributed(records: Sequence[Study]) -> list[Block]:
    rows, notices = [], []
    for record in records:
        if record.data["invalid_reasons"]:
            title = f"{record.model}: INVALID, these times are not to be believed"
            notices.append(Notice(title=title, items=record.data["invalid_reasons"], tone="bad"))
        num = str(record.data["num_workers"])
        for key, side in record.data["frameworks"].items():
            judged = record.data["judged"]
            inside = side["lockstep"]["first_step_beyond_bound"] is None
            verdict = ("within the bound" if inside else "beyond the bound") if judged else "not judged"
            rows.append(
                (
                    Cell(
                        text=f"{record.model}, {identity.framework(key).label}",
                        note=side["backend"],
                        series=identity.framework(key),
                    ),
                    Cell(text=num),
                    Cell(text=formats.milliseconds(side["median_step_ms"]["1"])),
                    Cell(text=formats.milliseconds(side["median_step_ms"][num])),
                    Cell(text=formats.percent(side["efficiency"], 0)),
                    Cell(text=formats.small(side["lockstep"]["max_abs_loss_difference"])),
                    Cell(text=verdict, tone=("good" if inside else "bad") if judged else ""),
                )
            )
    titles = ("Workers", "Step, 1 worker", "Step, all workers", "Efficiency", "Losses apart")
    table = Table(
        caption="Data parallel on one machine, the same global batch",
        columns=(Column(title="Model"), *(Column(title=title, numeric=True) for title in titles), Column(title="Equality")),
        rows=rows,
        note="Efficiency is t(1) / (N t(N)), every worker with as many threads as the one alone. With batch normalization a "
        "worker normalizes by its own share of the batch; such a model is another function and is not judged.",
    )
    return [Heading(text="Several workers", id="training-distributed"), *notices, table]
