"""TorchServe handler for an eager PyTorch model: the model's file and its weights from the archive."""

import importlib

import torch
from batching import BatchingHandler
from tensors import device_of, on_tensors


class EagerHandler(BatchingHandler):
    """`servable.json` names the module, its architecture, the file of its state_dict and the dtype of both."""

    def load(self, folder, servable, gpu):
        """Build the model, load its weights, move it to the worker's device."""
        device = device_of(gpu)
        model = importlib.import_module(servable["model_module"]).build(servable["architecture"], servable["signature"])
        dtype = getattr(torch, servable["dtype"])
        model.to(dtype).load_state_dict(torch.load(folder / servable["file"], map_location="cpu", weights_only=True))
        return on_tensors(model.to(device).eval(), device, dtype)
