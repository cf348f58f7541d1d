"""One worker of data-parallel training in PyTorch; distributed_tf.py is its pair, function by function.

`python -m training.distributed_torch --plan DIR --addresses HOST:PORT,… --rank R` joins the others over loopback; rank
0 writes DIR/<name>/record.json.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faceoff import cli, evaluation
from training import loop, record, scalars, weights
from training import plan as plans

FRAMEWORK = "torch"


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Take every step of the plan on this worker's share of the rows."""
    started = time.perf_counter()
    import torch

    import_s = time.perf_counter() - started
    from training import evaluate_torch, losses_torch, step_torch, weights_torch

    plan = plans.read(args.plan)
    torch.set_num_threads(plan.threads)
    step_torch.set_precision(plan.precision)
    num_workers = len(args.addresses)
    backend, close = join(args.addresses, args.rank, plan.device)
    try:
        device = torch.device(plan.device)
        pair = importlib.import_module(f"training.{plan.module}_torch")
        model = pair.build(plan.architecture, plan.signature.to_dict()).to(device)
        weights_torch.load_weights(model, weights.load(plan.initial_weights))
        replica = torch.nn.parallel.DistributedDataParallel(model)
        inputs = [step_torch.tensor(array).to(device) for array in plan.train_inputs.values()]
        targets = step_torch.tensor(plan.train_targets).to(device)
        (phase,) = losses_torch.phases(pair, replica, plan.loss)
        model.train()
        found = loop.run(
            make_step(plan, num_workers, phase, inputs, targets),
            torch.from_numpy(share(plan.batches, args.rank, num_workers)).to(device),
            label=f"{FRAMEWORK}, worker {args.rank}",
            num_steps=plan.num_steps,
            board=scalars.Nowhere(),
            evaluate=lambda: None,
            fellows=loop.fellows(),
        )
        outputs = evaluate_torch.outputs(model, plan, plan.test_inputs, precision=plan.precision)
    finally:
        close()
    result = record.Record(
        framework=FRAMEWORK,
        version=torch.__version__,
        mode="eager",
        device=plan.device,
        threads=torch.get_num_threads(),
        import_s=import_s,
        precision=plan.precision,
        optimizer=plan.recipe.to_dict(),
        others_percent=found.others_percent,
        losses=found.losses,
        step_ms=found.step_ms,
        test_accuracy=evaluation.accuracy(plan.loss, next(iter(outputs.values())), plan.test_targets),
        num_parameters=weights.num_parameters(weights_torch.weights(model)),
        peak_gpu_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )
    written = result.write(plan.directory / args.name) if args.rank == 0 else result.brief()
    return {**written, "backend": backend}


def join(addresses: list[str], rank: int, device: str) -> tuple[str, Callable[[], None]]:
    """Meet the others at the first address; returns the backend and what leaves them again."""
    import torch

    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"  # or the machine's name decides
    backend = "nccl" if device == "cuda" else "gloo"
    if device == "cuda":
        torch.cuda.set_device(rank)  # "cuda" is this worker's GPU from here on
    torch.distributed.init_process_group(backend, init_method=f"tcp://{addresses[0]}", rank=rank, world_size=len(addresses))
    return f"DistributedDataParallel on {backend}", torch.distributed.destroy_process_group


def make_step(plan: plans.Plan, num_workers: int, phase: Any, inputs: list[Any], targets: Any) -> Callable[[Any], float]:
    """A function from this worker's rows to the mean loss over all workers, on the host."""
    import torch

    from training import optim_torch, step_torch

    loss_of = step_torch.cast(plan.precision, phase.loss, targets.device.type)
    optimizer = optim_torch.build(plan.recipe, phase.parameters)

    def step(rows: torch.Tensor) -> float:
        optimizer.zero_grad()
        loss = loss_of([array[rows] for array in inputs], targets[rows])
        loss.backward()  # leaves the mean of all workers' gradients
        optim_torch.apply(optimizer)
        total = loss.detach()
        torch.distributed.all_reduce(total)
        return float(total.item()) / num_workers

    return step


def share(batches: Any, rank: int, num_workers: int) -> Any:
    """int64 (steps, batch / workers): the rows of this worker."""
    size = batches.shape[1] // num_workers
    return batches[:, rank * size : (rank + 1) * size].astype("int64")


def main(argv: list[str] | None = None) -> int:
    """`python -m training.distributed_torch`."""
    parser = cli.Parser(prog="python -m training.distributed_torch", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan (training.plan)")
    parser.add_argument("--name", required=True, help="folder under the plan's for the record")
    parser.add_argument("--addresses", type=cli.comma_list, required=True, help="HOST:PORT of every worker")
    parser.add_argument("--rank", type=int, required=True, help="which of them this is, from 0")
    return cli.run(parser, train, argv)


if __name__ == "__main__":
    raise SystemExit(main())
