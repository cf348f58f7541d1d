"""TorchServe handler for a TorchScript program (https://docs.pytorch.org/docs/stable/jit.html): no source is needed."""

import warnings

import torch
from batching import BatchingHandler
from tensors import device_of, on_tensors


class TorchScriptHandler(BatchingHandler):
    """`servable.json` names the file that torch.jit.save wrote."""

    def load(self, folder, servable, gpu):
        """Load the program onto the worker's device."""
        device = device_of(gpu)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch 2.13 calls TorchScript deprecated; it still works
            model = torch.jit.load(str(folder / servable["file"]), map_location=device)
        return on_tensors(model.eval(), device)
