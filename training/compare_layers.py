"""Where do two models part? Hold the outputs of every named layer of both frameworks against each other.

`python -m training.compare_layers --model lstm` gives both the same weights (drawn, with noise on biases and scales,
so that nothing hides behind a zero or a one) and the same golden rows, each in a process of its own, and prints the
largest difference of every layer in order. Exit code 1 when they are not equal; the JSON line names the layer:
{"status", "model", "first_layer_apart", "layers": [{"name", "max_abs_difference", "max_abs_value", "tolerance"}],
"only_in": {"torch": [names], "tf": [names]}}.

A layer that only one side has is named and is no fault by itself: padding is a layer in one framework and part of the
next in the other, as is a group of layers. What has weights is on both sides, or the weights would not have fitted.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import cli, presets, processes, progress
from faceoff.errors import FaceoffError
from faceoff.presets import ModelPreset
from faceoff.signature import Arrays
from training import plan as plans
from training import weights
from training.datasets import Dataset
from training.job import FRAMEWORKS, dataset_of


def compare_layers(args: argparse.Namespace) -> dict[str, Any]:
    """Compare the layers of one model. Raises FaceoffError with the layers as its details when they part."""
    preset = presets.model(args.model)
    dataset = dataset_of(preset, args.dataset)
    with tempfile.TemporaryDirectory(prefix="faceoff-layers-") as folder:
        directory = Path(folder)
        write_plan(directory, preset, dataset)
        progress.say(f"compare_layers: {preset.name} on {dataset.name}, golden rows, each framework in turn")
        for framework in FRAMEWORKS:
            run(framework, directory)
        layers, alone = compare(directory, preset.tolerances.frameworks), only_in(directory)
    return verdict(preset.name, layers, alone)


def write_plan(directory: Path, preset: ModelPreset, dataset: Dataset) -> None:
    """What both sides read: a plan with few golden rows, for every layer's output is kept."""
    few = dataclasses.replace(preset, num_golden_rows=presets.MIN_GOLDEN_ROWS)
    threads = processes.usable_cores()
    plans.write(directory, preset=few, dataset=dataset, profile="quick", threads=threads, device="cpu")


def run(framework: str, directory: Path) -> None:
    """Run one framework's side on the plan in `directory`; whichever comes first draws the weights."""
    processes.run_stage(f"training.compare_layers_{framework}", "--plan", str(directory))


def compare(directory: Path, tolerance: float) -> list[dict[str, Any]]:
    """The layers that both have, in torch's order. The tolerance of a layer grows with its largest value above 1.

    Raises FaceoffError when the shapes differ.
    """
    torch, tf = _outputs(directory)
    layers = []
    for name in [name for name in torch if name in tf]:
        if torch[name].shape != tf[name].shape:
            raise FaceoffError(f"layer {name!r} gives {torch[name].shape} in torch and {tf[name].shape} in TensorFlow")
        largest = float(np.abs(torch[name]).max(initial=0.0))
        layers.append(
            {
                "name": name,
                "max_abs_difference": float(np.abs(torch[name] - tf[name]).max(initial=0.0)),
                "max_abs_value": largest,
                "tolerance": tolerance * max(1.0, largest),
            }
        )
    return layers


def only_in(directory: Path) -> dict[str, list[str]]:
    """The names of the layers that one side has and the other has not, by the framework that has them."""
    torch, tf = _outputs(directory)
    return {"torch": [name for name in torch if name not in tf], "tf": [name for name in tf if name not in torch]}


def _outputs(directory: Path) -> list[Arrays]:
    """The output of every layer, torch's and TensorFlow's."""
    return [weights.load(directory / framework / "layers.npz") for framework in FRAMEWORKS]


def verdict(model: str, layers: list[dict[str, Any]], alone: dict[str, list[str]]) -> dict[str, Any]:
    """Show the table; returns the JSON line's content. Raises FaceoffError that names the first layer beyond its tolerance."""
    # `not <=`, so that NaN is beyond every tolerance.
    beyond = [layer for layer in layers if not layer["max_abs_difference"] <= layer["tolerance"]]
    rows = [
        [
            layer["name"],
            f"{layer['max_abs_difference']:.2g}",
            f"{layer['max_abs_value']:.3g}",
            f"{layer['tolerance']:.2g}",
            "<- apart" if layer in beyond[:1] else "",
        ]
        for layer in layers
    ]
    progress.table(f"Layers of {model}", ["layer", "max |difference|", "max |value|", "tolerance", ""], rows)
    for framework, names in alone.items():
        if names:
            progress.say(f"compare_layers: only {framework} makes a layer of {', '.join(names)}; not compared")
    found = {"model": model, "first_layer_apart": beyond[0]["name"] if beyond else None, "layers": layers, "only_in": alone}
    if beyond:
        first = beyond[0]
        raise FaceoffError(
            f"the two {model} part at layer {first['name']!r}: largest difference {first['max_abs_difference']:.3g}, "
            f"tolerance {first['tolerance']:.3g}",
            details=found,
        )
    return found


def main(argv: list[str] | None = None) -> int:
    """`python -m training.compare_layers`."""
    parser = cli.Parser(prog="python -m training.compare_layers", description=__doc__)
    parser.add_model()
    parser.add_argument("--dataset", default="", help="data set; default: the model's first")
    return cli.run(parser, compare_layers, argv)


if __name__ == "__main__":
    raise SystemExit(main())
