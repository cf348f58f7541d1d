"""The outputs of every named layer of the Keras model, in a process of its own; compare_layers_torch.py is its pair.

`python -m training.compare_layers_tf --plan DIR` loads DIR/initial.npz (drawn when it is missing) and writes
DIR/tf/layers.npz: each layer's output for the golden inputs, in the order in which the layers ran, images as NHWC.
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

FRAMEWORK = "tf"


def dump(args: argparse.Namespace) -> dict[str, Any]:
    """Write the outputs of the layers."""
    with cli.quiet_tensorflow():
        import tensorflow as tf

    from training import weights_tf
    from training.losses_tf import forward

    plan = plans.read(args.plan)
    tf.config.threading.set_intra_op_parallelism_threads(plan.threads)
    tf.config.set_visible_devices([], "GPU")
    pair = importlib.import_module(f"training.{plan.module}_tf")
    model = pair.build(plan.architecture, plan.signature.to_dict())
    shapes = weights.shapes(weights_tf.weights(model))
    values = weights.load_or_draw(plan.initial_weights, shapes, plan.seed, disturb=True)
    weights_tf.load_weights(model, values)
    weights.check_same(weights_tf.weights(model), values, FRAMEWORK)
    inputs = [tf.constant(array) for array in plan.golden_inputs().values()]
    found = outputs(model, plan.signature.outputs, lambda: forward(model, inputs, training=False))
    weights.save(plan.directory / FRAMEWORK / "layers.npz", found)
    return {"framework": FRAMEWORK, "num_layers": len(found)}


def outputs(model: Any, specs: Sequence[TensorSpec], run: Callable[[], Any]) -> Arrays:
    """Name to output of every layer with one output, in the order in which `run` calls them, then the model's own."""
    import tensorflow as tf

    from training.layers_tf import flat_layers

    found: Arrays = {}

    def keep(name: str, call: Any) -> Any:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            output = call(*args, **kwargs)
            if isinstance(output, tf.Tensor):
                found[name] = np.array(output.numpy(), order="C")
            return output

        return recorded

    for layer in flat_layers(model):
        layer.call = keep(layer.name, layer.call)
    answer = run()
    answers = answer if isinstance(answer, tuple) else (answer,)
    return found | {f"output {spec.name}": value.numpy() for spec, value in zip(specs, answers, strict=True)}


def main(argv: list[str] | None = None) -> int:
    """`python -m training.compare_layers_tf`."""
    parser = cli.Parser(prog="python -m training.compare_layers_tf", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan (training.plan)")
    return cli.run(parser, dump, argv)


if __name__ == "__main__":
    raise SystemExit(main())
