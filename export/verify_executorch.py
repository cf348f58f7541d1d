"""Verify a .pte in ExecuTorch's runtime, in a process and an environment of its own.

`.venv-formats/executorch/bin/python -m export.verify_executorch --model cnn --artifact torch-executorch`. The file has
no names: tensors go in and come out in the signature's order, and their dtypes and sizes are checked.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from export import check
from export.check import Predict
from faceoff.errors import FaceoffError
from faceoff.servables import Trained
from faceoff.signature import Arrays


def load(path: Path, trained: Trained) -> tuple[str, Predict]:
    """Load `forward` and check the number, dtypes and largest sizes of its inputs. Raises FaceoffError."""
    import torch
    from executorch.runtime import Runtime

    try:
        program = Runtime.get().load_program(str(path))
        method = program.load_method("forward")
    except (RuntimeError, ValueError, OSError) as error:
        raise FaceoffError(f"the .pte does not load ({type(error).__name__}: {error})") from error
    if method is None:
        raise FaceoffError("the .pte does not load: it has no method 'forward'")
    specs, about = trained.signature.inputs, method.metadata
    ranks = [len(about.input_tensor_meta(i).sizes()) for i in range(about.num_inputs())]
    if ranks != [len(spec.shape) + 1 for spec in specs]:
        raise FaceoffError(f"inputs have ranks {ranks}, expected {[len(spec.shape) + 1 for spec in specs]}")

    def predict(inputs: Arrays) -> Arrays:
        # `program` is named here because the method does not keep it alive.
        assert program is not None
        found = method.execute([torch.from_numpy(inputs[spec.name]) for spec in specs])
        return {spec.name: tensor.numpy().copy() for spec, tensor in zip(trained.signature.outputs, found, strict=True)}

    return f"ExecuTorch {version('executorch')}", predict


def main(argv: list[str] | None = None) -> int:
    """`python -m export.verify_executorch`."""
    return check.main("export.verify_executorch", __doc__, load, argv)


if __name__ == "__main__":
    raise SystemExit(main())
