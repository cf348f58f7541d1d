"""Outputs of given weights in TensorFlow, in a process of its own; evaluate_torch.py is its pair.

`python -m training.evaluate_tf --plan DIR` loads each side's trained weights into the Keras model and
writes DIR/tf/outputs_of_<framework>.npz: `golden/<output>` and `test/<output>`, of the golden and the test rows.
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

FRAMEWORK = "tf"


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Write the outputs of both sides' weights."""
    with cli.quiet_tensorflow():
        import tensorflow as tf

    from training import step_tf, weights_tf
    from training.train_tf import configure_threads, use_device

    plan = plans.read(args.plan)
    configure_threads(plan.threads)
    step_tf.set_precision("float32")  # whatever it was trained in; TensorFlow's own default is TF32
    with tf.device(use_device(plan.device)):
        pair = importlib.import_module(f"training.{plan.module}_tf")
        model = pair.build(plan.architecture, plan.signature.to_dict())
        shapes = weights.shapes(weights_tf.weights(model))
        for source in ("torch", "tf"):
            values = weights.load(plan.checkpoint(source))
            weights.check(values, shapes, str(plan.checkpoint(source)))
            weights_tf.load_weights(model, values)
            golden = outputs(model, plan, plan.golden_inputs())
            test = outputs(model, plan, plan.test_inputs)
            plans.save_outputs(plan.outputs_of(FRAMEWORK, source), golden=golden, test=test)
    return {"framework": FRAMEWORK}


def outputs(model: Any, plan: plans.Plan, inputs: Arrays) -> Arrays:
    """The named outputs of rows of named inputs, `plans.EVALUATION_ROWS` at a time, in evaluation mode.

    Computed in the precision that the model was built in (step_tf.set_precision); what bf16 gives is handed out in float32.
    """
    import keras
    import tensorflow as tf

    from training.losses_tf import forward
    from training.step_tf import tensor

    parts = []
    for rows in plans.chunks(inputs):
        found = forward(model, [tensor(rows[spec.name]) for spec in plan.signature.inputs], training=False)
        found = found if isinstance(found, tuple) else (found,)
        parts.append([tf.cast(output, keras.config.floatx()).numpy() for output in found])
    names = [spec.name for spec in plan.signature.outputs]
    return {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*parts, strict=True), strict=True)}


def main(argv: list[str] | None = None) -> int:
    """`python -m training.evaluate_tf`."""
    parser = cli.Parser(prog="python -m training.evaluate_tf", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan (training.plan)")
    return cli.run(parser, evaluate, argv)


if __name__ == "__main__":
    raise SystemExit(main())
