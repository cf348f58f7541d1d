"""Export one model from TensorFlow, in a process of its own; export_torch.py is its pair.

`python -m export.export_tf --model cnn --version 1 --out DIR` writes DIR/saved_model/<version>/ (the layout TensorFlow
Serving wants) and DIR/<model>_tf.onnx; with `--only` any of the rows of export.formats that are TensorFlow's.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from export import archive, onnx_precision, reproducible, writing
from faceoff import cli, images, servables
from faceoff.servables import Trained


def export(args: argparse.Namespace) -> dict[str, Any]:
    """Write the TensorFlow servables; returns their descriptions."""
    trained = servables.read_trained(cli.store(args), args.model)
    return {"artifacts": writing.write_rows(args, trained, load_model(trained), WRITERS)}


def load_model(trained: Trained, dtype: str = "float32") -> Any:
    """The Keras model with the served weights, its dynamic axes open; weights and operators in `dtype`."""
    with cli.quiet_tensorflow():
        import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # exporting needs none, and must not take its memory
    import keras

    from training import weights_tf

    signature = trained.signature.to_dict()
    for spec, data in zip(trained.signature.inputs, signature["inputs"], strict=True):
        data["shape"] = spec.dynamic_shape
    pair = importlib.import_module(f"training.{trained.preset['module']}_tf")
    # The initial weights do not matter here, and Keras draws orthogonal ones by a decomposition that has no bfloat16.
    with keras.utils.custom_object_scope({"orthogonal": keras.initializers.Zeros}):
        usual = keras.config.dtype_policy()
        keras.config.set_dtype_policy(dtype)
        try:
            model = pair.build(trained.preset["architecture"], signature)
        finally:
            keras.config.set_dtype_policy(usual)
    with np.load(trained.directory / "weights.npz") as data:
        weights_tf.load_weights(model, dict(data))
    return model


def export_savedmodel(model: Any, trained: Trained, path: Path, version: int) -> None:
    """A SavedModel whose signature names are ours (`model.export` would call the output output_0)."""
    _write_saved_model(model, trained, path, jit_compile=False)


def export_savedmodel_xla(model: Any, trained: Trained, path: Path, version: int) -> None:
    """The same signature, compiled by XLA in the server, once for each shape it meets (https://openxla.org/xla/tf2xla)."""
    _write_saved_model(model, trained, path, jit_compile=True)


def export_savedmodel_bf16(model: Any, trained: Trained, path: Path, version: int) -> None:
    """The same signature, of float32 tensors, with weights and operators in bfloat16 (keras.DTypePolicy)."""
    if not model.weights:
        raise writing.UnsupportedError("the model has no weights to hold in bfloat16")
    _write_saved_model(load_model(trained, "bfloat16"), trained, path, jit_compile=False)


def export_onnx(model: Any, trained: Trained, path: Path, version: int) -> None:
    """ONNX by tf2onnx (https://github.com/onnx/tensorflow-onnx) from the same endpoint as the SavedModel's."""
    import tensorflow as tf
    import tf2onnx

    function, specs = _endpoint(model, trained)
    with writing.converting():
        tf2onnx.convert.from_function(tf.function(function), input_signature=specs, opset=18, output_path=str(path))
    reproducible.onnx_file(path)


export_onnx_float16 = onnx_precision.writer(export_onnx, onnx_precision.to_float16)
export_onnx_int8 = onnx_precision.writer(export_onnx, onnx_precision.to_int8)


def export_tflite(model: Any, trained: Trained, path: Path, version: int) -> None:
    """LiteRT's flatbuffer by the converter inside TensorFlow; only LiteRT's own operators, so that every runtime has them."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(model, trained, Path(folder), jit_compile=False)
        with writing.converting():
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[trained.signature.name])
            converted = converter.convert()
        path.write_bytes(converted)


WRITERS: dict[str, writing.Write] = {
    "tf-savedmodel": export_savedmodel,
    "tf-savedmodel-xla": export_savedmodel_xla,
    "tf-onnx": export_onnx,
    "tf-mar-onnx": archive.writer(export_onnx),
    "tf-tflite": export_tflite,
    "tf-savedmodel-bf16": export_savedmodel_bf16,
    "tf-onnx-float16": export_onnx_float16,
    "tf-onnx-int8": export_onnx_int8,
    "tf-mar-onnx-int8": archive.writer(export_onnx_int8),
}


def _write_saved_model(model: Any, trained: Trained, path: Path, *, jit_compile: bool) -> None:
    import keras
    import tensorflow as tf
    from tensorflow.core.protobuf import fingerprint_pb2

    function, specs = _endpoint(model, trained)
    network = tf.function(function, input_signature=specs, jit_compile=jit_compile)
    endpoints = {trained.signature.name: network}
    if encoded := images.variant(trained.signature):
        endpoints[encoded.name] = _image_endpoint(network, trained)
    with writing.converting():
        archive = keras.export.ExportArchive()
        archive.track(model)
        for name, endpoint in endpoints.items():
            archive.add_endpoint(name, endpoint)
        archive.write_out(str(path), verbose=False)
    # The one thing in a SavedModel that is drawn at random: an identity for telemetry.
    fingerprint = path / "fingerprint.pb"
    known = fingerprint_pb2.FingerprintDef.FromString(fingerprint.read_bytes())
    known.ClearField("uuid")
    fingerprint.write_bytes(known.SerializeToString(deterministic=True))


def _endpoint(model: Any, trained: Trained) -> tuple[Any, list[Any]]:
    """A function of the named inputs to the named outputs, and the specifications of its arguments."""
    import tensorflow as tf

    inputs, outputs = trained.signature.inputs, trained.signature.outputs

    def endpoint(*rows: Any) -> dict[str, Any]:
        found = model(rows[0] if len(rows) == 1 else list(rows), training=False)
        pairs = zip(outputs, found if isinstance(found, (list, tuple)) else [found], strict=True)
        return {spec.name: tf.cast(tensor, spec.dtype) for spec, tensor in pairs}  # no cast where it has the dtype

    # tf.function names a signature's inputs after the parameters of the function.
    parameters = [inspect.Parameter(spec.name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for spec in inputs]
    endpoint.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return endpoint, [tf.TensorSpec([None, *spec.dynamic_shape], spec.dtype, name=spec.name) for spec in inputs]


def _image_endpoint(network: Any, trained: Trained) -> Any:
    """The same network of encoded images: decoding and resizing are in front of it."""
    import tensorflow as tf

    from export import images_tf

    shape = trained.signature.inputs[0].shape

    def endpoint(image_bytes: Any) -> dict[str, Any]:
        outputs: dict[str, Any] = network(images_tf.pixels(image_bytes, shape))
        return outputs

    return tf.function(endpoint, input_signature=[tf.TensorSpec([None], tf.string, name=images.INPUT)])


def main(argv: list[str] | None = None) -> int:
    """`python -m export.export_tf`."""
    return cli.run(writing.parser("python -m export.export_tf", __doc__), export, argv)


if __name__ == "__main__":
    raise SystemExit(main())
