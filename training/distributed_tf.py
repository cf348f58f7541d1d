"""One worker of data-parallel training in TensorFlow; distributed_torch.py is its pair, function by function.

`python -m training.distributed_tf --plan DIR --addresses HOST:PORT,… --rank R` joins the others over loopback; rank
0 writes DIR/<name>/record.json. Keras' own fit does not run under this strategy: docs/decisions/0005-distributed-step.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faceoff import cli, evaluation
from training import loop, record, scalars, weights
from training import plan as plans

FRAMEWORK = "tf"


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Take every step of the plan on this worker's share of the rows."""
    plan = plans.read(args.plan)
    num_workers = len(args.addresses)
    task = {"type": "worker", "index": args.rank}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": args.addresses}, "task": task})
    started = time.perf_counter()
    with cli.quiet_tensorflow():
        import tensorflow as tf

    import_s = time.perf_counter() - started
    from training import evaluate_tf, losses_tf, step_tf, weights_tf
    from training.train_tf import configure_threads

    configure_threads(plan.threads)
    step_tf.set_precision(plan.precision)
    backend, strategy = join(args.rank, plan.device)
    pair = importlib.import_module(f"training.{plan.module}_tf")
    with strategy.scope():
        model = pair.build(plan.architecture, plan.signature.to_dict())
        weights_tf.load_weights(model, weights.load(plan.initial_weights))
        inputs = [step_tf.tensor(array) for array in plan.train_inputs.values()]
        targets = step_tf.tensor(plan.train_targets)
        (phase,) = losses_tf.phases(pair, model, plan.loss)
        step = make_step(plan, num_workers, phase, inputs, targets)
    found = loop.run(
        step,
        tf.constant(share(plan.batches, args.rank, num_workers)),
        label=f"{FRAMEWORK}, worker {args.rank}",
        num_steps=plan.num_steps,
        board=scalars.Nowhere(),
        evaluate=lambda: None,
        fellows=loop.fellows(),
    )
    outputs = evaluate_tf.outputs(model, plan, plan.test_inputs)
    result = record.Record(
        framework=FRAMEWORK,
        version=tf.__version__,
        mode="function",
        device=plan.device,
        threads=tf.config.threading.get_intra_op_parallelism_threads(),
        import_s=import_s,
        precision=plan.precision,
        optimizer=plan.recipe.to_dict(),
        others_percent=found.others_percent,
        losses=found.losses,
        step_ms=found.step_ms,
        test_accuracy=evaluation.accuracy(plan.loss, next(iter(outputs.values())), plan.test_targets),
        num_parameters=weights.num_parameters(weights_tf.weights(model)),
        peak_gpu_bytes=tf.config.experimental.get_memory_info("GPU:0")["peak"] if plan.device == "cuda" else None,
    )
    written = result.write(plan.directory / args.name) if args.rank == 0 else result.brief()
    return {**written, "backend": backend}


def join(rank: int, device: str) -> tuple[str, Any]:
    """Meet the others at TF_CONFIG's addresses; returns the backend and the strategy. A worker has one GPU: its rank's."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU") if device == "cuda" else []
    mine = gpus[rank : rank + 1]
    tf.config.set_visible_devices(mine, "GPU")
    for gpu in mine:
        tf.config.experimental.set_memory_growth(gpu, True)
    kinds = tf.distribute.experimental.CommunicationImplementation
    kind = kinds.NCCL if mine else kinds.RING
    options = tf.distribute.experimental.CommunicationOptions(implementation=kind)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    return f"MultiWorkerMirroredStrategy on {kind.value.lower()}", strategy


def make_step(plan: plans.Plan, num_workers: int, phase: Any, inputs: list[Any], targets: Any) -> Callable[[Any], float]:
    """A function from this worker's rows to the mean loss over all workers, on the host."""
    import tensorflow as tf

    from training import optim_tf

    strategy = tf.distribute.get_strategy()  # this is called in its scope
    optimizer = optim_tf.build(plan.recipe, phase.parameters)

    def update(rows: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = phase.loss([tf.gather(array, rows) for array in inputs], tf.gather(targets, rows)) / num_workers
        gradients = tape.gradient(loss, phase.parameters)
        # Keras' optimizer sums the gradients of all workers; of the losses divided by their number that is the mean.
        optim_tf.apply(optimizer, gradients, phase.parameters, equal=plan.recipe.equal)
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, loss)

    @tf.function  # type: ignore[untyped-decorator]
    def everywhere(rows: Any) -> Any:
        return strategy.run(update, args=(rows,))

    return lambda rows: float(everywhere(rows))


def share(batches: Any, rank: int, num_workers: int) -> Any:
    """int32 (steps, batch / workers): the rows of this worker."""
    size = batches.shape[1] // num_workers
    return batches[:, rank * size : (rank + 1) * size]


def main(argv: list[str] | None = None) -> int:
    """`python -m training.distributed_tf`."""
    parser = cli.Parser(prog="python -m training.distributed_tf", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan (training.plan)")
    parser.add_argument("--name", required=True, help="folder under the plan's for the record")
    parser.add_argument("--addresses", type=cli.comma_list, required=True, help="HOST:PORT of every worker")
    parser.add_argument("--rank", type=int, required=True, help="which of them this is, from 0")
    return cli.run(parser, train, argv)


if __name__ == "__main__":
    raise SystemExit(main())
