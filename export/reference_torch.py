"""What a model must give for rows of other lengths than its data set's, by the eager torch model, in a process of its own.

`python -m export.reference_torch --model lstm --out DIR` writes DIR/lengths/<n>/ for each length of presets/export.yaml:
golden rows cut to n, and their outputs. Every artifact of either framework is held to them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from export.program_torch import LoadedModel
from faceoff import cli, golden, presets, servables
from faceoff.golden import Golden

NUM_ROWS = 8


def write(args: argparse.Namespace) -> dict[str, Any]:
    """Write the rows and their outputs; returns the lengths."""
    trained = servables.read_trained(cli.store(args), args.model)
    signature, rows = trained.signature, trained.golden.rows(0, NUM_ROWS).inputs
    model = LoadedModel(trained)
    lengths = [
        n for n in presets.export().lengths if all(n < spec.shape[axis] for spec in signature.inputs for axis in spec.dynamic)
    ]
    for length in lengths:
        inputs = {spec.name: rows[spec.name][:, :length] if spec.dynamic else rows[spec.name] for spec in signature.inputs}
        found = model([inputs[spec.name] for spec in signature.inputs])
        outputs = {spec.name: array for spec, array in zip(signature.outputs, found, strict=True)}
        golden.write(args.out / "lengths" / str(length), Golden(inputs=inputs, outputs=outputs))
    return {"lengths": lengths}


def main(argv: list[str] | None = None) -> int:
    """`python -m export.reference_torch`."""
    parser = cli.Parser(prog="python -m export.reference_torch", description=__doc__)
    parser.add_model()
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_store()
    return cli.run(parser, write, argv)


if __name__ == "__main__":
    raise SystemExit(main())
