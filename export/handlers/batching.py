"""What every handler of ours does inside a TorchServe worker, whatever form the model has. Packed into every .mar.

A batch that TorchServe collected is answered by one call of the model (one for each length, where a row's length may
differ); a bad request gets a 400 of its own. A handler module has one class, which says how its form is loaded.

Where the model raises, the requests of that call are tried one by one. Whether values or the model are at fault, no exception
says, so a row of zeros is asked too: if that is answered, the request gets a 400, as from TensorFlow Serving; if not, the
exception is TorchServe's to handle, with 503 for the whole batch (507 where memory is short).
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
        self.infer_zeros()
        self.initialized = True

    def handle(self, data, context):
        """One answer for each request of the batch, in order; a request may hold several rows."""
        answers, groups = [None] * len(data), {}
        for index, row in enumerate(data):
            try:
                kind, rows = wire.parse(row, self.inputs, self.outputs, self.decoder)
            except wire.BadRequestError as error:
                answers[index] = _refusal(index, str(error), context)
            else:
                shape = tuple(array.shape[1:] for array in rows.values())
                groups.setdefault(shape, []).append((index, kind, rows))
        for group in groups.values():
            self.answer(group, answers, context)
        return answers

    def answer(self, group, answers, context):
        """Fill in the answers of requests whose rows have one shape: by one call, or by one each where that raises."""
        names = [spec["name"] for spec in self.inputs]
        try:
            outputs = self.infer({name: np.concatenate([rows[name] for _, _, rows in group]) for name in names})
        except Exception as error:  # a runtime's errors share no base
            if len(group) > 1:
                for request in group:
                    self.answer([request], answers, context)
            else:
                self.infer_zeros()
                index = group[0][0]
                answers[index] = _refusal(index, f"the model refuses these values ({_in_short(error)})", context)
            return
        start = 0
        for index, kind, rows in group:
            stop = start + len(rows[names[0]])
            answers[index] = wire.render(kind, {name: array[start:stop] for name, array in outputs.items()})
            start = stop
            if kind == "json":
                context.set_response_content_type(index, "application/json")

    def infer_zeros(self):
        """One row that every model answers; raises where it does not."""
        self.infer({spec["name"]: np.zeros((1, *spec["shape"]), spec["dtype"]) for spec in self.inputs})

    def infer(self, rows):
        """Named inputs (batch, *shape) to named outputs (batch, *shape), NumPy to NumPy."""
        arrays = self.run([np.ascontiguousarray(rows[spec["name"]]) for spec in self.inputs])
        return {spec["name"]: array for spec, array in zip(self.outputs, arrays, strict=True)}


def _refusal(index, message, context):
    context.set_response_status(400, "Bad Request", index)
    context.set_response_content_type(index, "application/json")
    return wire.error_body(message)


def _in_short(error):
    lines = str(error).strip().split("\n")  # TorchScript's trace ends with what it is about; the others are one line
    return f"{type(error).__name__}: {lines[-1].strip()[:200]}"
