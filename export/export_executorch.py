"""Export one model to ExecuTorch, in the environment that has its compiler (.venv-formats/executorch).

`.venv-formats/executorch/bin/python -m export.export_executorch --model cnn --out DIR --only executorch` writes DIR/<model>.pte:
torch.export's program, lowered to the XNNPACK backend (https://docs.pytorch.org/executorch/stable/). Memory is planned at
export, so the batch has a bound. A .pte has no names for its inputs and outputs; their order is the signature's.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

from export import writing
from export.program_torch import LoadedModel
from faceoff import cli, golden, servables
from faceoff.servables import Trained

MAX_ROWS = max(golden.BATCH_SIZES)


def export(args: argparse.Namespace) -> dict[str, Any]:
    """Write the .pte; returns its description."""
    trained = servables.read_trained(cli.store(args), args.model)
    # As many example rows as memory is planned for: lowering a convolution bounds the batch by 15 when it sees fewer than 16.
    model = LoadedModel(trained, max_rows=MAX_ROWS, example_rows=MAX_ROWS)
    return {"artifacts": writing.write_rows(args, trained, model, WRITERS)}


def export_pte(model: LoadedModel, trained: Trained, path: Path, version: int) -> None:
    """Lower what XNNPACK takes, leave the rest to ExecuTorch's portable kernels."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    logging.disable(logging.WARNING)  # a line for every operator that stays with the portable kernels
    program = model.program
    with warnings.catch_warnings(), writing.converting():
        warnings.simplefilter("ignore")  # deprecations inside the compiler
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer
    path.write_bytes(lowered)


WRITERS: dict[str, writing.Write] = {"torch-executorch": export_pte}


def main(argv: list[str] | None = None) -> int:
    """`python -m export.export_executorch`."""
    return cli.run(writing.parser("python -m export.export_executorch", __doc__), export, argv)


if __name__ == "__main__":
    raise SystemExit(main())
