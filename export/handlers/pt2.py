"""TorchServe handler for a torch.export program (https://docs.pytorch.org/docs/stable/export.html): no source is needed."""

import torch
from batching import BatchingHandler
from tensors import device_of, on_tensors


class Pt2Handler(BatchingHandler):
    """`servable.json` names the .pt2 file that torch.export.save wrote."""

    def load(self, folder, servable, gpu):
        """The program as a module on the worker's device; it was exported in evaluation mode."""
        device = device_of(gpu)
        return on_tensors(torch.export.load(str(folder / servable["file"])).module().to(device), device)
