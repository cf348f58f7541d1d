"""NumPy in and out of a torch callable, inside a TorchServe worker. Packed beside the handlers that use torch."""

import torch


def device_of(gpu):
    """The worker's device: its GPU when TorchServe gave it one that is there."""
    return torch.device(f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu")


def on_tensors(model, device, dtype=torch.float32):
    """A function from a list of arrays to a list of arrays, through `model` on `device`.

    `dtype` is what the model computes in; the arrays are float32 whatever it is.
    """

    def tensor(array):
        found = torch.from_numpy(array).to(device)
        return found.to(dtype) if found.is_floating_point() else found

    def array(tensor):
        return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()

    def run(arrays):
        with torch.inference_mode():
            found = model(*map(tensor, arrays))
            return [array(one) for one in (found if isinstance(found, (tuple, list)) else (found,))]

    return run
