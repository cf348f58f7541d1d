"""What every handler of ours does inside a TorchServe worker, whatever form the model has. Packed into every .mar.

A batch that TorchServe collected is answered by one call of the model (one for each length, where a row's length may
differ); a bad request gets a 400 of its own. A handler module has one class, which says how its form is loaded.
"""

import json
import logging
from pathlib import Path

import numpy as np
import wire

# At INFO, TorchServe's workers log several lines a request: 341 instead of 235 us each (docs/method.md).
logging.getLogger().setLevel(logging.WARNING)


class BatchingHandler:
    """The object that TorchServe calls: `initialize(context)` once, `handle(data, context)` for each batch."""

    def __init__(self):
        self.initialized = False
        self.inputs = self.outputs = self.run = self.decoder = None

    def load(self, folder, servable, gpu):
        """A function from a list of arrays, in the signature's order, to one. `gpu` is a CUDA index or None."""
        raise NotImplementedError

    def initialize(self, context):
        """Load the model and run one row, so that READY means it answers."""
        folder = Path(context.system_properties["model_dir"])
        servable = json.loads((folder / "servable.json").read_text(encoding="utf-8"))
        self.inputs, self.outputs = servable["signature"]["inputs"], servable["signature"]["outputs"]
        if servable.get("image"):
            import images  # Pillow is there for models that take images only

            self.decoder = images.Decoder(self.inputs[0]["shape"], **servable["image"])
        self.run = self.load(folder, servable, context.system_properties.get("gpu_id"))
        self.infer({spec["name"]: np.zeros((1, *spec["shape"]), spec["dtype"]) for spec in self.inputs})
        self.initialized = True

    def handle(self, data, context):
        """One answer for each request of the batch, in order; a request may hold several rows."""
        answers, groups = [None] * len(data), {}
        for index, row in enumerate(data):
            try:
                kind, rows = wire.parse(row, self.inputs, self.outputs, self.decoder)
            except wire.BadRequestError as error:
                context.set_response_status(400, "Bad Request", index)
                context.set_response_content_type(index, "application/json")
                answers[index] = wire.error_body(str(error))
            else:
                shape = tuple(array.shape[1:] for array in rows.values())
                groups.setdefault(shape, []).append((index, kind, rows))
        for group in groups.values():
            names = [spec["name"] for spec in self.inputs]
            outputs = self.infer({name: np.concatenate([rows[name] for _, _, rows in group]) for name in names})
            start = 0
            for index, kind, rows in group:
                stop = start + len(rows[names[0]])
                answers[index] = wire.render(kind, {name: array[start:stop] for name, array in outputs.items()})
                start = stop
                if kind == "json":
                    context.set_response_content_type(index, "application/json")
        return answers

    def infer(self, rows):
        """Named inputs (batch, *shape) to named outputs (batch, *shape), NumPy to NumPy."""
        arrays = self.run([np.ascontiguousarray(rows[spec["name"]]) for spec in self.inputs])
        return {spec["name"]: array for spec, array in zip(self.outputs, arrays, strict=True)}
