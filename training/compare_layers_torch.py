"""The outputs of every named layer of the torch model, in a process of its own; compare_layers_tf.py is its pair.

`python -m training.compare_layers_torch --plan DIR` loads DIR/initial.npz (drawn when it is missing) and writes
DIR/torch/layers.npz: each layer's output for the golden inputs, in the order in which the layers ran, images as NHWC.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import cli
from faceoff.signature import Arrays, TensorSpec
from training import plan as plans
from training import weights

FRAMEWORK = "torch"


def dump(args: argparse.Namespace) -> dict[str, Any]:
    """Write the outputs of the layers."""
    import torch

    from training import weights_torch
    from training.losses_torch import forward

    plan = plans.read(args.plan)
    torch.set_num_threads(plan.threads)
    pair = importlib.import_module(f"training.{plan.module}_torch")
    model = pair.build(plan.architecture, plan.signature.to_dict()).eval()
    shapes = weights.shapes(weights_torch.weights(model))
    values = weights.load_or_draw(plan.initial_weights, shapes, plan.seed, disturb=True)
    weights_torch.load_weights(model, values)
    weights.check_same(weights_torch.weights(model), values, FRAMEWORK)
    inputs = [torch.from_numpy(array) for array in plan.golden_inputs().values()]
    found = outputs(model, plan.signature.outputs, lambda: forward(model, inputs))
    weights.save(plan.directory / FRAMEWORK / "layers.npz", found)
    return {"framework": FRAMEWORK, "num_layers": len(found)}


def outputs(model: Any, specs: Sequence[TensorSpec], run: Callable[[], Any]) -> Arrays:
    """Name to output of every layer with one output, in the order in which `run` calls them, then the model's own."""
    import torch
    from torch import nn

    channels_first = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.MaxPool2d)
    found: Arrays = {}

    def keep(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                value = output.permute(0, 2, 3, 1) if isinstance(module, channels_first) else output
                found[name] = np.array(value.detach().numpy(), order="C")

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in model.named_modules() if name]
    with torch.inference_mode():
        answer = run()
    for hook in hooks:
        hook.remove()
    answers = answer if isinstance(answer, tuple) else (answer,)
    return found | {f"output {spec.name}": value.numpy() for spec, value in zip(specs, answers, strict=True)}


def main(argv: list[str] | None = None) -> int:
    """`python -m training.compare_layers_torch`."""
    parser = cli.Parser(prog="python -m training.compare_layers_torch", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan (training.plan)")
    return cli.run(parser, dump, argv)


if __name__ == "__main__":
    raise SystemExit(main())
