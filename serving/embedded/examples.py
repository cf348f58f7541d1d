"""Classify, Regress and MultiInference: serialized tf.Examples in, labelled scores and values out.

The checks, their order and their words are the real server's (classifier.cc, regressor.cc, multi_inference.cc,
util.cc). Nothing here knows a transport.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.embedded.api import Api, predict
from serving.embedded.directory import Served
from serving.embedded.errors import Code, ServingError, invalid
from serving.embedded.signature import DEFAULT_SIGNATURE, Signature
from serving.embedded.tensors import as_bytes
from serving.embedded.versions import ModelSpec

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
_KIND = {CLASSIFY: "classification", REGRESS: "regression"}

Classes = list[tuple[bytes, float]]
Arrays = dict[str, np.ndarray]


def serialized(message: Any) -> list[bytes]:
    """The examples of an input.proto Input, each behind the context if there is one. Raises ServingError."""
    kind = message.WhichOneof("kind")
    context = b""
    if kind == "example_list_with_context":
        context = message.example_list_with_context.context.SerializeToString()
    found = getattr(message, kind).examples if kind else []
    if not found:
        raise invalid("Input is empty.")
    return [context + example.SerializeToString() for example in found]


def find_signature(api: Api, served: Served, name: str, method: str) -> Signature:
    """The signature of a Classify or Regress call. Raises ServingError."""
    name = name or DEFAULT_SIGNATURE
    signature: Signature | None = served.model.signatures.get(name)
    if signature is None:
        raise invalid(f"No signature was found with the name: {name}")
    _check_method(api, signature, method)
    return signature


def _check_method(api: Api, signature: Signature, method: str) -> None:
    if api.check_method_name and signature.method_name != method:
        raise invalid(f"Expected {_KIND[method]} signature method_name to be {method}. Was: {signature.method_name}")


def _debug(signature: Signature) -> str:
    from google.protobuf import text_format

    return str(text_format.MessageToString(signature.proto))


def outputs_of(api: Api, signature: Signature, method: str) -> tuple[str, ...]:
    """The output aliases a method reads, once the signature is fit for it. Raises ServingError."""
    _check_method(api, signature, method)
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if method == REGRESS:
        if len(signature.outputs) != 1:
            raise invalid("Expected one output Tensor.")
        if "inputs" not in signature.inputs:
            raise invalid(f"No regression inputs found in SignatureDef: {_debug(signature)}")
        if "outputs" not in signature.outputs:
            raise invalid(f"No regression outputs found in SignatureDef: {_debug(signature)}")
        return ("outputs",)
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {_debug(signature)}")
    found = tuple(alias for alias in ("classes", "scores") if alias in signature.outputs)
    if not found:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_debug(signature)}"
        )
    return found


def classifications(arrays: Arrays, num_examples: int) -> list[Classes]:
    """Labels and scores a row; a missing one is "" or 0. Raises ServingError where they do not fit the examples."""
    classes, scores = arrays.get("classes"), arrays.get("scores")
    for name, array, kind in (("classes", classes, "O"), ("scores", scores, "f")):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if array.dtype.kind != kind or (kind == "f" and array.dtype.itemsize != 4):
            wanted = "DT_STRING" if kind == "O" else "DT_FLOAT"
            raise invalid(f"Expected {name} Tensor of {wanted}. Got: {_type_name(array)}")
        if array.shape[0] != num_examples:
            raise invalid(f"Expected {name} output batch size of {num_examples}. Got: {array.shape[0]}")
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid(f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}")
    labels = None if classes is None else classes.tolist()
    values = None if scores is None else scores.tolist()
    width = next(array.shape[1] for array in (classes, scores) if array is not None)
    return [
        [(as_bytes(labels[row][k]) if labels else b"", values[row][k] if values else 0.0) for k in range(width)]
        for row in range(num_examples)
    ]


def regressions(arrays: Arrays, num_examples: int) -> list[float]:
    """One value a row. Raises ServingError where the output does not fit the examples."""
    array = arrays["outputs"]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid(f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(array)}")
    if array.shape[0] != num_examples:
        raise invalid(f"Input batch size did not match output batch size: {num_examples} vs. {array.shape[0]}")
    if array.dtype != np.dtype("<f4"):
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_type_name(array)}")
    return [float(value) for value in array.ravel()]


async def run_one(api: Api, spec: ModelSpec, served: Served, method: str, message: Any) -> tuple[Signature, Arrays, int]:
    """Classify or Regress up to the arrays: (signature, outputs, number of examples). Raises ServingError."""
    signature = find_signature(api, served, spec.signature_name, method)
    outputs = outputs_of(api, signature, method)
    examples = serialized(message)
    api.metrics.examples(spec.name, len(examples))
    result = await predict(api, spec, served, signature, {"inputs": _strings(examples)}, output_filter=outputs, method=method)
    return signature, dict(result.outputs), len(examples)


async def run_many(
    api: Api, served: Served, tasks: Sequence[tuple[ModelSpec, str]], message: Any
) -> list[tuple[Signature, Arrays, int]]:
    """MultiInference: one run for tasks of (spec, method) on one model. Raises ServingError."""
    chosen: dict[str, tuple[Signature, tuple[str, ...]]] = {}
    model_name = tensor = ""
    for spec, method in tasks:
        if not spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if model_name and spec.name != model_name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        model_name = spec.name
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name in chosen:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        if name not in served.model.signatures:
            raise invalid(f"Requested signature not found in model graph: {name}")
        signature: Signature = served.model.signatures[name]
        if method not in _KIND:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {method}")
        chosen[name] = signature, outputs_of(api, signature, method)
        fed = signature.inputs["inputs"].tensor
        if tensor and fed != tensor:
            raise invalid("Input tensor must be the same for all Signatures.")
        tensor = fed
    examples = serialized(message)
    api.metrics.examples(model_name, len(examples))
    joint = _joint(chosen)
    result = await predict(api, tasks[0][0], served, joint, {"inputs": _strings(examples)}, method="MultiInference")
    return [
        (signature, {alias: result.outputs[f"{name}/{alias}"] for alias in outputs}, len(examples))
        for name, (signature, outputs) in chosen.items()
    ]


def _joint(chosen: dict[str, tuple[Signature, tuple[str, ...]]]) -> Signature:
    """A signature that gives the outputs of several; its name cannot be one of the model's."""
    first = next(iter(chosen.values()))[0]
    outputs = {f"{name}/{alias}": signature.outputs[alias] for name, (signature, aliases) in chosen.items() for alias in aliases}
    return Signature(name="\0".join(["", *sorted(chosen)]), method_name="", inputs=first.inputs, outputs=outputs)


def _strings(values: list[bytes]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _type_name(array: np.ndarray) -> str:
    from serving import tfs_stubs as tfs
    from serving.embedded import dtypes

    return str(tfs.types_pb2.DataType.Name(dtypes.by_numpy(array.dtype).number))
