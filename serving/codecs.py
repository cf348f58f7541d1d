"""The codecs: rows to request bytes and answer bytes to rows. serving/protocols.py says which server takes which.

Decoding is strict: what is not the signature's outputs raises DecodeError. No transport here; bytes in, bytes out. JSON answers
are read by serving/predictions.py.
"""

from __future__ import annotations

import base64
import io
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceoff.errors import UsageError
from faceoff.signature import Arrays, Signature
from serving import predictions
from serving.predictions import DecodeError, check_shape

__all__ = [
    "Base64Rest",
    "Codec",
    "DecodeError",
    "ImageRest",
    "JsonRest",
    "NpyRest",
    "RawRest",
    "Route",
    "TfServingGrpc",
    "TfServingTypedGrpc",
    "TorchServeGrpc",
    "TorchServeImageGrpc",
]


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where requests go: the same for every request of a measurement.

    `target` is host:port; `path` is the HTTP path or the full gRPC method; `content_type` is for REST.
    """

    protocol: str
    target: str
    path: str
    content_type: str = ""


@dataclass(frozen=True, kw_only=True)
class Codec(ABC):
    """Rows to request bytes and answer bytes to rows, for one endpoint, protocol and encoding."""

    route: Route
    encoding: str
    signature: Signature
    model: str
    version: int

    @classmethod
    def says(cls, signature: Signature) -> bool:
        """Whether all of such a model's inputs and outputs can be said this way."""
        return True

    @abstractmethod
    def encode(self, inputs: Arrays) -> bytes:
        """One request for a batch of rows: an HTTP body or a serialized message."""

    @abstractmethod
    def decode(self, body: bytes, num_rows: int) -> Arrays:
        """The named outputs of `num_rows` rows. Raises DecodeError."""

    def _output(self, array: np.ndarray, num_rows: int) -> Arrays:
        spec = self.signature.outputs[0]
        check_shape(spec, array.shape, num_rows)
        return {spec.name: array}


class JsonRest(Codec):
    """TF Serving's row format, spoken by both servers."""

    def encode(self, inputs: Arrays) -> bytes:
        """Numbers are the shortest decimals that read back as the same float32."""
        import orjson

        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        if len(arrays) == 1:
            instances: Any = next(iter(arrays.values()))
        else:
            rows = len(next(iter(arrays.values())))
            instances = [{name: array[row] for name, array in arrays.items()} for row in range(rows)]
        return orjson.dumps({"instances": instances}, option=orjson.OPT_SERIALIZE_NUMPY)

    def decode(self, body: bytes, num_rows: int) -> Arrays:
        """Several outputs come as one object a row, a single one as the bare value."""
        return predictions.decode(body, self.signature.outputs, num_rows)


class Base64Rest(JsonRest):
    """JSON whose rows are `{"b64": ...}`, the little-endian bytes of the one input (our TorchServe handler)."""

    @classmethod
    def says(cls, signature: Signature) -> bool:
        """One input."""
        return len(signature.inputs) == 1

    def encode(self, inputs: Arrays) -> bytes:
        """Standard base64 with padding."""
        import orjson

        spec = self.signature.inputs[0]
        rows = np.ascontiguousarray(inputs[spec.name], dtype=spec.wire_dtype)
        return orjson.dumps({"instances": [{"b64": base64.b64encode(row.tobytes()).decode()} for row in rows]})


class ImageRest(JsonRest):
    """JSON whose rows are `{"b64": ...}`, a PNG or JPEG each; the signature's name tells both servers."""

    def encode(self, inputs: Arrays) -> bytes:
        """Standard base64 with padding."""
        import orjson

        rows = [{"b64": base64.b64encode(image).decode()} for image in inputs[self.signature.inputs[0].name]]
        return orjson.dumps({"signature_name": self.signature.name, "instances": rows})


class RawRest(Codec):
    """Bytes only, in the signature's order, each tensor with all its rows (TorchServe). They mean the stated shapes."""

    def encode(self, inputs: Arrays) -> bytes:
        """C order, little-endian. Raises UsageError for rows of another length, which bytes cannot say."""
        for spec in self.signature.inputs:
            if inputs[spec.name].shape[1:] != spec.shape:
                raise UsageError(
                    f"rows of {spec.name!r} have shape {inputs[spec.name].shape[1:]}: raw bytes mean {spec.shape}; send JSON"
                )
        return b"".join(
            np.ascontiguousarray(inputs[spec.name], dtype=spec.wire_dtype).tobytes() for spec in self.signature.inputs
        )

    def decode(self, body: bytes, num_rows: int) -> Arrays:
        """Exactly `num_rows` rows of every output."""
        outputs, start = {}, 0
        for spec in self.signature.outputs:
            try:
                array = np.frombuffer(body, spec.wire_dtype, num_rows * math.prod(spec.shape), start)
            except ValueError as error:
                raise DecodeError(f"{len(body)} bytes are not {num_rows} rows of {spec.shape} {spec.dtype}") from error
            outputs[spec.name] = array.reshape((num_rows, *spec.shape)).astype(spec.dtype, copy=False)
            start += array.nbytes
        if start != len(body):
            raise DecodeError(f"{len(body)} bytes are not {num_rows} rows, expected {start}")
        return outputs


class NpyRest(Codec):
    """A .npy file each way (TorchServe)."""

    @classmethod
    def says(cls, signature: Signature) -> bool:
        """One input and one output: a .npy holds one array."""
        return len(signature.inputs) == len(signature.outputs) == 1

    def encode(self, inputs: Arrays) -> bytes:
        """NumPy format 1.0."""
        buffer = io.BytesIO()
        np.save(buffer, inputs[self.signature.inputs[0].name], allow_pickle=False)
        return buffer.getvalue()

    def decode(self, body: bytes, num_rows: int) -> Arrays:
        """Nothing pickled is read."""
        try:
            return self._output(np.load(io.BytesIO(body), allow_pickle=False), num_rows)
        except (ValueError, EOFError, OSError) as error:
            if isinstance(error, DecodeError):
                raise
            raise DecodeError(f"not a .npy document: {error}") from error


class TorchServeGrpc(RawRest):
    """TorchServe's `input` map with the raw bytes under "data"."""

    def encode(self, inputs: Arrays) -> bytes:
        """A serialized PredictionsRequest."""
        from serving.torchserve.stubs import inference_pb2

        request = inference_pb2().PredictionsRequest(
            model_name=self.model, model_version=str(self.version), input=self._parts(inputs)
        )
        return bytes(request.SerializeToString())

    def _parts(self, inputs: Arrays) -> dict[str, bytes]:
        return {"data": super().encode(inputs)}

    def decode(self, body: bytes, num_rows: int) -> Arrays:
        """The raw bytes in a PredictionResponse."""
        from google.protobuf.message import DecodeError as ProtobufError

        from serving.torchserve.stubs import inference_pb2

        try:
            prediction = inference_pb2().PredictionResponse.FromString(body).prediction
        except ProtobufError as error:
            raise DecodeError(f"not a PredictionResponse: {error}") from error
        # TorchServe's gRPC has no status for one request of a batch. Asked first: a refusal may be as long as an answer.
        if prediction.startswith(b'{"error": '):
            raise DecodeError(f"a refusal: {prediction.decode(errors='replace')}")
        return super().decode(prediction, num_rows)


class TorchServeImageGrpc(TorchServeGrpc):
    """TorchServe's `input` map with an encoded image under "image_0", "image_1" …"""

    def _parts(self, inputs: Arrays) -> dict[str, bytes]:
        return {f"image_{number}": data for number, data in enumerate(inputs[self.signature.inputs[0].name])}


class TfServingGrpc(Codec):
    """PredictRequest with `tensor_content`; answers with typed fields or with `tensor_content`."""

    def encode(self, inputs: Arrays) -> bytes:
        """A serialized PredictRequest."""
        from serving import tfs_stubs as tfs

        request = tfs.predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.version.value = self.version
        request.model_spec.signature_name = self.signature.name
        for spec in self.signature.inputs:
            array = np.ascontiguousarray(inputs[spec.name], dtype=spec.wire_dtype)
            tensor = request.inputs[spec.name]
            tensor.dtype = tfs.types_pb2.DataType.Value(_TF_DTYPES[spec.dtype])
            for size in array.shape:
                tensor.tensor_shape.dim.add(size=size)
            self._fill(tensor, array, spec.dtype)
        return bytes(request.SerializeToString())

    def _fill(self, tensor: Any, array: np.ndarray, dtype: str) -> None:
        tensor.tensor_content = array.tobytes()

    def decode(self, body: bytes, num_rows: int) -> Arrays:
        """Every output of the signature, and no other."""
        from google.protobuf.message import DecodeError as ProtobufError

        from serving import tfs_stubs as tfs

        try:
            response = tfs.predict_pb2.PredictResponse.FromString(body)
        except ProtobufError as error:
            raise DecodeError(f"not a PredictResponse: {error}") from error
        if sorted(response.outputs) != sorted(spec.name for spec in self.signature.outputs):
            raise DecodeError(f"outputs are named {sorted(response.outputs)}")
        outputs = {}
        for spec in self.signature.outputs:
            tensor = response.outputs[spec.name]
            if tensor.dtype != tfs.types_pb2.DataType.Value(_TF_DTYPES[spec.dtype]):
                raise DecodeError(f"{spec.name!r} has TensorFlow dtype {tensor.dtype}, expected {_TF_DTYPES[spec.dtype]}")
            shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
            check_shape(spec, shape, num_rows)
            try:
                if tensor.tensor_content:
                    array = np.frombuffer(tensor.tensor_content, dtype=spec.wire_dtype)
                else:
                    array = np.asarray(getattr(tensor, _TF_FIELDS[spec.dtype]), dtype=spec.dtype)
                outputs[spec.name] = array.reshape(shape).astype(spec.dtype, copy=False)
            except ValueError as error:
                raise DecodeError(f"{spec.name!r} does not hold {shape} values: {error}") from error
        return outputs


class TfServingTypedGrpc(TfServingGrpc):
    """PredictRequest with the values in the tensor's typed list: `float_val` of a float, `string_val` of bytes."""

    def _fill(self, tensor: Any, array: np.ndarray, dtype: str) -> None:
        getattr(tensor, _TF_FIELDS[dtype]).extend(array.ravel().tolist())


_TF_DTYPES = {
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "object": "DT_STRING",
}
_TF_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int32": "int_val",
    "int64": "int64_val",
    "object": "string_val",
}
