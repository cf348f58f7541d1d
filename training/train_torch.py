"""Train one model in PyTorch, in a process of its own; train_tf.py is its pair, function by function.

`python -m training.train_torch --plan DIR` reads the plan and writes DIR/torch/ (or DIR/<name>/): checkpoint.pt,
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

FRAMEWORK = "torch"


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Run every step of the plan; returns the record's summary."""
    started = time.perf_counter()
    import torch

    import_s = time.perf_counter() - started
    from training import evaluate_torch, losses_torch, native_torch, step_torch, weights_torch

    plan, mode = plans.read(args.plan), args.mode or step_torch.MODES[0]
    torch.set_num_threads(plan.threads)
    step_torch.set_precision(plan.precision)
    device = torch.device(plan.device)
    pair = importlib.import_module(f"training.{plan.module}_torch")
    native = args.native_seed is not None
    if native:
        native_torch.seed_everything(args.native_seed)
    model = pair.build(plan.architecture, plan.signature.to_dict()).to(device)
    batches, recipe = plan.batches, plan.recipe
    if native:
        batches = native_torch.draw_batches(len(plan.train_targets), batches.shape[1], plan.num_steps, args.native_seed)
        recipe = recipe.native()
    else:
        shapes = weights.shapes(weights_torch.weights(model))
        weights_torch.load_weights(model, weights.load_or_draw(plan.initial_weights, shapes, plan.seed))

    step = step_torch.make(
        mode,
        recipe=recipe,
        precision=plan.precision,
        phases=losses_torch.phases(pair, model, plan.loss),
        inputs=[step_torch.tensor(array).to(device) for array in plan.train_inputs.values()],
        targets=step_torch.tensor(plan.train_targets).to(device),
    )

    def evaluate() -> float | None:
        outputs = evaluate_torch.outputs(model, plan, plan.test_inputs, precision=plan.precision)
        model.train()
        return evaluation.accuracy(plan.loss, next(iter(outputs.values())), plan.test_targets)

    directory = plan.directory / args.name
    directory.mkdir(exist_ok=True)
    model.train()
    joules = energy.gpu_joules()
    with scalars.log(directory / "tensorboard" if args.board == "on" else None) as board:
        found = loop.run(
            step,
            torch.from_numpy(batches.astype("int64")).to(device),
            label=args.name,
            num_steps=plan.num_steps,
            board=board,
            evaluate=evaluate,
            evaluate_every=args.evaluate_every,
            timed=not native,
        )
    joules = energy.used(joules, energy.gpu_joules())

    torch.save(model.state_dict(), directory / "checkpoint.pt")
    trained = weights_torch.weights(model)
    weights.save(plan.checkpoint(args.name), trained)
    record = Record(
        framework=FRAMEWORK,
        version=torch.__version__,
        mode=mode,
        precision=plan.precision,
        device=plan.device,
        threads=torch.get_num_threads(),
        import_s=None if native else import_s,
        losses=found.losses,
        step_ms=found.step_ms,
        test_accuracy=evaluate(),
        num_parameters=weights.num_parameters(trained),
        peak_gpu_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        optimizer=recipe.to_dict(),
        native_seed=args.native_seed,
        evaluations=found.evaluations,
        logging_ms=[] if native else board.cost_ms,
        others_percent=found.others_percent,
        energy_j=None if native else joules,
    )
    return record.write(directory)


def main(argv: list[str] | None = None) -> int:
    """`python -m training.train_torch`."""
    parser = cli.Parser(prog="python -m training.train_torch", description=__doc__)
    loop.add_options(parser, name=FRAMEWORK, modes="eager or compile")
    return cli.run(parser, train, argv)


if __name__ == "__main__":
    raise SystemExit(main())
