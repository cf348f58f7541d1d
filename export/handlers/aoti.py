"""TorchServe handler for an AOTInductor package: a compiled library and its weights.

https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html. It is compiled for the processor kind of the
machine that exported it, and runs on the CPU also where TorchServe offers a GPU.
"""

import torch
from batching import BatchingHandler
from tensors import on_tensors


class AotiHandler(BatchingHandler):
    """`servable.json` names the package that torch._inductor.aoti_compile_and_package wrote."""

    def load(self, folder, servable, gpu):
        """Load the library."""
        return on_tensors(torch._inductor.aoti_load_package(str(folder / servable["file"])), torch.device("cpu"))
