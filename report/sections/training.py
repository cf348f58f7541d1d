"""Training, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from report import formats, identity
from report.figures import base
from report.figures import training as figures
from report.page import Block, Cell, Column, Notice, Plot, Section, Table, Text
from report.records import Run, reading
from report.sections import studies

APART = 1e-4  # training's own line: losses further apart than this count as parted
MODES = {"function": "tf.function", "xla": "tf.function, XLA", "compile": "torch.compile"}


def section(run: Run) -> Section:
    """Build the section from the training records of both frameworks."""
    sides: dict[str, dict[str, Any]] = {}
    blocks: list[Block] = []
    for key in identity.FRAMEWORKS:
        record = run.get(f"train_{key}")
        if record is None:
            title = f"No training record of {identity.FRAMEWORKS[key]}"
            blocks.append(Notice(title=title, text=run.missing(f"train_{key}"), tone="warn"))
        else:
            sides[key] = record
    if sides:
        training = run.get("training")
        if training:
            with reading(run.path("training"), "make train"):
                blocks.append(Text(text=_story(training)))
        with reading(run.path(f"train_{next(iter(sides))}"), "make train"):
            blocks += [_table(sides, training), *_plots(sides)]
    blocks += studies.blocks(run)
    return Section(id="training", title="Training, side by side", short="Training", blocks=blocks)


def _story(training: dict[str, Any]) -> str:
    metrics, config = training["metrics"], training["config"]
    steps, apart = int(metrics["num_steps"]), metrics["first_step_apart"]
    if not steps:
        return "Nothing is trained: the model has no weights."
    optimizer, lockstep = config["optimizer"], metrics["lockstep"]
    label = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}.get(optimizer["name"], optimizer["name"])
    momentum = f" and momentum {optimizer['momentum']:g}" if optimizer["name"] == "sgd" else ""
    recipe = (
        f"In lock-step: {formats.plural(steps, 'step')} of {config['preset']['training']['batch_size']} examples, {label} with "
        f"learning rate {optimizer['learning_rate']:g}{momentum}, {config['precision']}, profile `{config['profile']}`, "
        f"seed {config['seed']}, each framework alone in its own process. The stated bound for the difference of the losses is "
        f"{formats.small(lockstep['bound'])}."
    )
    largest = formats.small(metrics["max_abs_loss_difference"])
    exact = lockstep.get("float64")
    if apart is None:
        never = f"The losses never part by more than {formats.small(APART)}; at most they are {largest} apart."
        return f"{recipe} {never} {_ends(lockstep)}".rstrip()
    proof = (
        f"That it is rounding, the same training in float64 shows: there they differ by at most "
        f"{formats.small(exact['max_abs_loss_difference'])}. "
        if exact
        else ""
    )
    return (
        f"{recipe} The losses stay within {formats.small(APART)} of each other until step {int(apart) + 1}, where rounding "
        f"differences have grown past it; at most they are {largest} apart. {proof}{_ends(lockstep)} Whether both arrive at an "
        f"equally good model, the accuracy below says."
    )


def _ends(lockstep: dict[str, Any]) -> str:
    """How far the trained weights are apart, in float64 where that was trained; "" where a record does not say."""
    exact = lockstep.get("float64") or lockstep
    found = (exact.get("ends") or {}).get("weights")
    if not found:
        return ""
    where = f"in float64, over {formats.plural(exact['bound_steps'], 'step')}," if exact is not lockstep else "after training"
    return (
        f"Weights {where} differ by at most {formats.small(found['max_difference'])} ({found['name']}), running statistics "
        f"included; the stated bound is {formats.small(found['bound'])}."
    )


def _table(sides: dict[str, dict[str, Any]], training: dict[str, Any] | None) -> Table:
    served = (training or {}).get("metrics", {}).get("served_accuracy", {})
    get: list[tuple[str, Callable[[str, dict[str, Any]], str]]] = [
        ("Version", lambda _, r: str(r["version"])),
        ("Mode", lambda _, r: MODES.get(r["mode"], str(r["mode"]))),
        ("Device, threads", lambda _, r: f"{r['device']}, {r['threads']}"),
        ("Parameters", lambda _, r: formats.count(r["num_parameters"])),
        ("Import of the framework", lambda _, r: formats.seconds(r["import_s"])),
        ("First step (compiles, allocates)", lambda _, r: formats.milliseconds(r["first_step_ms"])),
        ("All other steps", lambda _, r: formats.seconds(r["training_s"])),
        ("One step, median", lambda _, r: formats.milliseconds(_quantile(r["step_ms"][1:], 0.5))),
        ("One step, p99", lambda _, r: formats.milliseconds(_quantile(r["step_ms"][1:], 0.99))),
        ("Peak memory (RSS)", lambda _, r: formats.size(r["peak_rss_bytes"])),
        ("Peak GPU memory", lambda _, r: formats.size(r["peak_gpu_bytes"]) if r["peak_gpu_bytes"] is not None else "no GPU used"),
        ("Last loss", lambda _, r: formats.number(r["losses"][-1] if r["losses"] else None)),
        ("Test accuracy, own weights", lambda _, r: formats.percent(r["test_accuracy"])),
        ("Test accuracy, served weights", lambda key, _: formats.percent(served.get(key))),
    ]
    return Table(
        caption="What each framework needed and where it arrived",
        columns=(Column(title=""), *(Column(title=identity.framework(key).label, numeric=True) for key in sides)),
        rows=[(Cell(text=name), *(Cell(text=read(key, record)) for key, record in sides.items())) for name, read in get],
        note="One training on each side: times of one run, without intervals. Peak memory includes the framework itself.",
    )


def _quantile(values: Sequence[float], level: float) -> float | None:
    """None where there are no values: a model without weights takes no step."""
    return float(np.quantile(values, level)) if values else None


def _plots(sides: dict[str, dict[str, Any]]) -> list[Plot]:
    """Losses and step times; nothing of a model that takes no step (training takes none or at least two)."""
    if not all(record["losses"] for record in sides.values()):
        return []
    curves = {key: np.asarray(record["losses"], dtype=np.float64) for key, record in sides.items()}
    times = {key: np.asarray(record["step_ms"], dtype=np.float64) for key, record in sides.items()}
    legend = [identity.framework(key) for key in sides]
    longest = max(len(values) for values in curves.values())
    thinned = (
        f" Of {formats.count(longest)} steps {formats.count(base.MAX_POINTS)} evenly spread ones are drawn."
        if longest > base.MAX_POINTS
        else ""
    )
    both = (
        " Below, how far apart they are, on a log axis; the dotted line is where they count as parted."
        " An exact match has no place on a log axis and is left out."
        if len(sides) == 2
        else ""
    )
    medians = formats.listed(
        [f"{identity.framework(k).label} {formats.milliseconds(float(np.median(v[1:])))}" for k, v in times.items()]
    )
    return [
        Plot(
            id="plot-losses",
            title="Loss of every step",
            figure=figures.losses(curves, APART),
            label="Training loss against optimizer step: "
            + formats.listed([f"{identity.framework(k).label} from {v[0]:.3f} to {v[-1]:.3f}" for k, v in curves.items()]),
            caption=f"The same batches on both sides. Where one curve hides the other they are equal.{both}{thinned}",
            legend=legend,
        ),
        Plot(
            id="plot-steps",
            title="Time of a step",
            figure=figures.step_times(times),
            label=f"Box plots of step times on a log axis; medians: {medians}.",
            caption="Every step but the first; boxes span the quartiles, the line is the median. Log axis, ms."
            + (
                f" At most {formats.count(base.MAX_POINTS // 2)} steps a side, evenly spread, are drawn."
                if longest > base.MAX_POINTS // 2
                else ""
            ),
            legend=legend,
        ),
    ]
