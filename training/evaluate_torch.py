"""Outputs of given weights in PyTorch, in a process of its own; evaluate_tf.py is its pair.

`python -m training.evaluate_torch --plan DIR` loads each side's trained weights into the torch model and
writes DIR/torch/outputs_of_<framework>.npz: `golden/<output>` and `test/<output>`, of the golden and the test rows.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import cli
from faceoff.signature import Arrays
from training import plan as plans
from training import weights

FRAMEWORK = "torch"


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Write the outputs of both sides' weights."""
    import torch

    from training import step_torch, weights_torch

    plan = plans.read(args.plan)
    torch.set_num_threads(plan.threads)
    step_torch.set_precision("float32")  # whatever it was trained in; torch's own convolutions would use TF32
    pair = importlib.import_module(f"training.{plan.module}_torch")
    model = pair.build(plan.architecture, plan.signature.to_dict()).to(plan.device)
    shapes = weights.shapes(weights_torch.weights(model))
    for source in ("torch", "tf"):
        values = weights.load(plan.checkpoint(source))
        weights.check(values, shapes, str(plan.checkpoint(source)))
        weights_torch.load_weights(model, values)
        golden = outputs(model, plan, plan.golden_inputs(), precision="float32")
        test = outputs(model, plan, plan.test_inputs, precision="float32")
        plans.save_outputs(plan.outputs_of(FRAMEWORK, source), golden=golden, test=test)
    return {"framework": FRAMEWORK}


def outputs(model: Any, plan: plans.Plan, inputs: Arrays, *, precision: str) -> Arrays:
    """The named outputs of rows of named inputs, `plans.EVALUATION_ROWS` at a time, in evaluation mode.

    Computed in `precision`, as a training step is; what bf16 gives is handed out in float32.
    """
    import torch

    from training.losses_torch import forward
    from training.step_torch import cast, tensor

    model.eval()
    forward = cast(precision, forward, plan.device)
    parts = []
    with torch.inference_mode():
        for rows in plans.chunks(inputs):
            found = forward(model, [tensor(rows[spec.name]).to(plan.device) for spec in plan.signature.inputs])
            found = found if isinstance(found, tuple) else (found,)
            parts.append([output.to(torch.get_default_dtype()).cpu().numpy() for output in found])
    names = [spec.name for spec in plan.signature.outputs]
    return {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*parts, strict=True), strict=True)}


def main(argv: list[str] | None = None) -> int:
    """`python -m training.evaluate_torch`."""
    parser = cli.Parser(prog="python -m training.evaluate_torch", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan (training.plan)")
    return cli.run(parser, evaluate, argv)


if __name__ == "__main__":
    raise SystemExit(main())
