"""Train one model in TensorFlow, in a process of its own; train_torch.py is its pair, function by function.

`python -m training.train_tf --plan DIR` reads the plan and writes DIR/tf/ (or DIR/<name>/): checkpoint.weights.h5,
weights.npz, record.json and tensorboard/.
"""

from __future__ import annotations

import argparse
import importlib
import time
from typing import Any

from faceoff import cli, evaluation
from training import energy, loop, scalars, weights
from training import plan as plans
from training.record import Record

FRAMEWORK = "tf"


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Run every step of the plan; returns the record's summary."""
    started = time.perf_counter()
    with cli.quiet_tensorflow():
        import tensorflow as tf

    import_s = time.perf_counter() - started
    from training import evaluate_tf, losses_tf, native_tf, step_tf, weights_tf

    plan, mode = plans.read(args.plan), args.mode or step_tf.MODES[0]
    configure_threads(plan.threads)
    step_tf.set_precision(plan.precision)
    with tf.device(use_device(plan.device)):
        pair = importlib.import_module(f"training.{plan.module}_tf")
        native = args.native_seed is not None
        if native:
            native_tf.seed_everything(args.native_seed)
        model = pair.build(plan.architecture, plan.signature.to_dict())
        batches, recipe = plan.batches, plan.recipe
        if native:
            batches = native_tf.draw_batches(len(plan.train_targets), batches.shape[1], plan.num_steps, args.native_seed)
            recipe = recipe.native()
        else:
            shapes = weights.shapes(weights_tf.weights(model))
            weights_tf.load_weights(model, weights.load_or_draw(plan.initial_weights, shapes, plan.seed))

        step = step_tf.make(
            mode,
            recipe=recipe,
            precision=plan.precision,
            phases=losses_tf.phases(pair, model, plan.loss),
            inputs=[step_tf.tensor(array) for array in plan.train_inputs.values()],
            targets=step_tf.tensor(plan.train_targets),
        )

        def evaluate() -> float | None:
            outputs = evaluate_tf.outputs(model, plan, plan.test_inputs)
            return evaluation.accuracy(plan.loss, next(iter(outputs.values())), plan.test_targets)

        directory = plan.directory / args.name
        directory.mkdir(exist_ok=True)
        joules = energy.gpu_joules()
        with scalars.log(directory / "tensorboard" if args.board == "on" else None) as board:
            found = loop.run(
                step,
                tf.constant(batches.astype("int32")),
                label=args.name,
                num_steps=plan.num_steps,
                board=board,
                evaluate=evaluate,
                evaluate_every=args.evaluate_every,
                timed=not native,
            )
        joules = energy.used(joules, energy.gpu_joules())

        model.save_weights(directory / "checkpoint.weights.h5")
        trained = weights_tf.weights(model)
        weights.save(plan.checkpoint(args.name), trained)
        accuracy = evaluate()
    record = Record(
        framework=FRAMEWORK,
        version=tf.__version__,
        mode=mode,
        precision=plan.precision,
        device=plan.device,
        threads=tf.config.threading.get_intra_op_parallelism_threads(),
        import_s=None if native else import_s,
        losses=found.losses,
        step_ms=found.step_ms,
        test_accuracy=accuracy,
        num_parameters=weights.num_parameters(trained),
        peak_gpu_bytes=tf.config.experimental.get_memory_info("GPU:0")["peak"] if plan.device == "cuda" else None,
        optimizer=recipe.to_dict(),
        native_seed=args.native_seed,
        evaluations=found.evaluations,
        logging_ms=[] if native else board.cost_ms,
        others_percent=found.others_percent,
        energy_j=None if native else joules,
    )
    return record.write(directory)


def configure_threads(threads: int) -> None:
    """As many threads as torch gets, and one operation at a time, as torch's eager mode runs."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def use_device(device: str) -> str:
    """TensorFlow's name of `device`; GPU memory grows as needed, as torch's does."""
    import tensorflow as tf

    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
        return "/CPU:0"
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    return "/GPU:0"


def main(argv: list[str] | None = None) -> int:
    """`python -m training.train_tf`."""
    parser = cli.Parser(prog="python -m training.train_tf", description=__doc__)
    loop.add_options(parser, name=FRAMEWORK, modes="function, eager or xla")
    return cli.run(parser, train, argv)


if __name__ == "__main__":
    raise SystemExit(main())
