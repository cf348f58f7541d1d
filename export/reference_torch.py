"""What a model must give for what training has no golden rows of, by the eager torch model, in a process of its own.

`python -m export.reference_torch --model lstm --out DIR` writes DIR/lengths/<n>/ for each length of presets/export.yaml:
golden rows cut to n, and their outputs; of a model that takes images DIR/images/<encoding>/: encoded images and the outputs
of their pixels, which export/handlers/images.py says. Every artifact of either framework is held to them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from export import golden_images
from export.program_torch import LoadedModel
from faceoff import cli, golden, images, presets, servables
from faceoff.golden import Golden
from faceoff.servables import Trained
from faceoff.signature import Arrays

NUM_ROWS = 8


def needed(trained: Trained) -> bool:
    """Whether the model takes anything that training has no golden rows of."""
    return any(spec.dynamic for spec in trained.signature.inputs) or images.variant(trained.signature) is not None


def write(args: argparse.Namespace) -> dict[str, Any]:
    """Write the rows and their outputs; returns the lengths and how many images."""
    trained = servables.read_trained(cli.store(args), args.model)
    model = LoadedModel(trained)
    return {"lengths": _lengths(trained, model, args.out), "images": _images(trained, model, args.out)}


def _lengths(trained: Trained, model: LoadedModel, out: Path) -> list[int]:
    signature, rows = trained.signature, trained.golden.rows(0, NUM_ROWS).inputs
    axes = [spec.shape[axis] for spec in signature.inputs for axis in spec.dynamic]
    lengths = [n for n in presets.export().lengths if axes and all(n < size for size in axes)]
    for length in lengths:
        inputs = {spec.name: rows[spec.name][:, :length] if spec.dynamic else rows[spec.name] for spec in signature.inputs}
        golden.write(out / "lengths" / str(length), Golden(inputs=inputs, outputs=_outputs(trained, model, inputs)))
    return lengths


def _images(trained: Trained, model: LoadedModel, out: Path) -> int:
    about = images.about(trained.signature)
    if about is None:
        return 0
    from export.handlers.images import Decoder

    (spec,) = trained.signature.inputs
    decoder = Decoder(spec.shape, **about)
    drawn = golden_images.draw(trained.golden.inputs[spec.name])
    for encoding, encoded in drawn.items():
        pixels = np.stack([decoder.pixels(data) for data in encoded])
        images.write(out, encoding, encoded, _outputs(trained, model, {spec.name: pixels}))
    return sum(map(len, drawn.values()))


def _outputs(trained: Trained, model: LoadedModel, inputs: Arrays) -> Arrays:
    found = model([inputs[spec.name] for spec in trained.signature.inputs])
    return {spec.name: array for spec, array in zip(trained.signature.outputs, found, strict=True)}


def main(argv: list[str] | None = None) -> int:
    """`python -m export.reference_torch`."""
    parser = cli.Parser(prog="python -m export.reference_torch", description=__doc__)
    parser.add_model()
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_store()
    return cli.run(parser, write, argv)


if __name__ == "__main__":
    raise SystemExit(main())
