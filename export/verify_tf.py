"""Verify a SavedModel through the signature that TensorFlow Serving would call, in a process of its own.

`python -m export.verify_tf --model cnn --artifact tf-savedmodel`.
"""

from __future__ import annotations

from pathlib import Path

from export import check
from export.check import Predict
from faceoff import cli, images
from faceoff.errors import FaceoffError
from faceoff.servables import Trained
from faceoff.signature import Arrays


def load(path: Path, trained: Trained) -> tuple[str, Predict]:
    """Load the SavedModel and check the names, dtypes and shapes of its signature. Raises FaceoffError."""
    with cli.quiet_tensorflow():
        import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    try:
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures[trained.signature.name]
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise FaceoffError(f"the SavedModel does not load ({type(error).__name__}: {error})") from error
    found = {name: (spec.dtype.name, tuple(spec.shape)) for name, spec in function.structured_input_signature[1].items()}
    check.compare_inputs(found, trained, lambda spec: (spec.dtype, (None, *spec.dynamic_shape)))

    def predict(inputs: Arrays) -> Arrays:
        # `loaded` is named here because the function does not keep the model's variables alive.
        called = loaded.signatures[images.SIGNATURE_NAME if images.INPUT in inputs else trained.signature.name]
        outputs = called(**{name: tf.constant(rows) for name, rows in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return f"TensorFlow {tf.__version__}", predict


def main(argv: list[str] | None = None) -> int:
    """`python -m export.verify_tf`."""
    return check.main("export.verify_tf", __doc__, load, argv)


if __name__ == "__main__":
    raise SystemExit(main())
