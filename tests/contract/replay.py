"""Sends a recorded request and gives the answer in the recording's form; adapted from the recorder's own client.

A case is a line of transcripts.jsonl (fields: NOTES.md). REST goes over a raw socket, so that nothing is
normalised; gRPC requests are sent as serialized bytes.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
from typing import Any

KEPT_HEADERS = (
    "content-type", "content-encoding", "access-control-allow-origin", "access-control-allow-methods",
    "access-control-allow-headers", "allow", "location",
)  # fmt: skip
VALUE_FIELDS = (
    "tensor_content", "half_val", "float_val", "double_val", "int_val", "string_val", "scomplex_val",
    "int64_val", "bool_val", "dcomplex_val", "uint32_val", "uint64_val",
)  # fmt: skip
LARGEST_MESSAGE = 200_000  # bytes; of larger answers only the size was recorded

Answer = dict[str, Any]


def spec_bytes(spec: dict[str, Any]) -> bytes:
    """A body that is described rather than written out."""
    if spec["kind"] == "repeat":
        return (spec["prefix"] + spec["unit"] * spec["count"] + spec["suffix"]).encode()
    if spec["kind"] == "json_repeat":
        return (spec["prefix"] + spec["sep"].join([spec["unit"]] * spec["count"]) + spec["suffix"]).encode()
    if spec["kind"] == "gzip":
        return gzip.compress(spec["text"].encode(), mtime=0)
    raise ValueError(spec["kind"])


def rest_body(request: dict[str, Any], model_base: str) -> bytes | None:
    if "body" in request:
        return str(request["body"]).replace("{MODEL_BASE}", model_base).encode()
    if "body_base64" in request:
        return base64.b64decode(request["body_base64"])
    return spec_bytes(request["body_spec"]) if "body_spec" in request else None


def rest_send(port: int, request: dict[str, Any], model_base: str, timeout_s: float = 60) -> Answer:
    body = rest_body(request, model_base)
    headers = dict(request.get("headers") or {})
    given = {name.lower() for name in headers}
    lines = [f"{request['method']} {request['path']} HTTP/{request.get('http_version', '1.1')}"]
    if "host" not in given:
        lines.append("Host: localhost")
    if body is not None and not given & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    wire = "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        answers = []
        for _ in range(request.get("repeat_on_connection", 1)):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused early; the answer says why
                connection.sendall(wire)
            answers.append(read_answer(connection, request["method"]))
        answer = answers[-1]
        if "repeat_on_connection" in request:
            answer["statuses_on_connection"] = [one["status"] for one in answers]
        if request.get("observe_close"):
            connection.settimeout(1.0)
            try:
                answer["server_closes"] = connection.recv(1) == b""
            except TimeoutError:
                answer["server_closes"] = False
            except ConnectionResetError:
                answer["server_closes"] = True
        return answer


def read_answer(connection: socket.socket, method: str) -> Answer:
    head, rest = b"", b""
    try:
        while b"\r\n\r\n" not in head:
            data = connection.recv(65536)
            if not data:
                break
            head += data
    except ConnectionResetError:
        pass
    except TimeoutError:
        return {"status": None, "no_reply": "timeout"}
    if b"\r\n\r\n" not in head:
        return {"status": None, "no_reply": "connection closed", "raw": head.decode("latin-1")}
    head, rest = head.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if method == "HEAD":
        connection.settimeout(0.5)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            rest += connection.recv(65536)
    elif "content-length" in headers:
        while len(rest) < int(headers["content-length"]):
            data = connection.recv(1 << 20)
            if not data:
                break
            rest += data
    else:
        while data := connection.recv(65536):
            rest += data
    answer: Answer = {
        "status": int(lines[0].split(" ")[1]),
        "headers": {name: value for name, value in headers.items() if name in KEPT_HEADERS},
    }
    try:
        answer["body"] = rest.decode()
    except UnicodeDecodeError:
        answer["body_base64"] = base64.b64encode(rest).decode()
    return answer


def _message_types() -> dict[str, tuple[Any, Any]]:
    from serving import tfs_stubs as tfs

    prediction, model = "tensorflow.serving.PredictionService/", "tensorflow.serving.ModelService/"
    classification, regression = tfs.classification_pb2, tfs.regression_pb2
    return {
        prediction + "Predict": (tfs.predict_pb2.PredictRequest, tfs.predict_pb2.PredictResponse),
        prediction + "Classify": (classification.ClassificationRequest, classification.ClassificationResponse),
        prediction + "Regress": (regression.RegressionRequest, regression.RegressionResponse),
        prediction + "MultiInference": (tfs.inference_pb2.MultiInferenceRequest, tfs.inference_pb2.MultiInferenceResponse),
        prediction + "GetModelMetadata": (
            tfs.get_model_metadata_pb2.GetModelMetadataRequest,
            tfs.get_model_metadata_pb2.GetModelMetadataResponse,
        ),
        model + "GetModelStatus": (
            tfs.get_model_status_pb2.GetModelStatusRequest,
            tfs.get_model_status_pb2.GetModelStatusResponse,
        ),
        model + "HandleReloadConfigRequest": (
            tfs.model_management_pb2.ReloadConfigRequest,
            tfs.model_management_pb2.ReloadConfigResponse,
        ),
    }


def grpc_bytes(request: dict[str, Any], types: tuple[Any, Any] | None, model_base: str) -> bytes:
    from google.protobuf import json_format

    if "message" in request:
        assert types is not None
        text = json.dumps(request["message"]).replace("{MODEL_BASE}", model_base)
        return bytes(json_format.ParseDict(json.loads(text), types[0]()).SerializeToString(deterministic=True))
    if "message_base64" in request:
        return base64.b64decode(request["message_base64"])
    if "message_spec" in request:  # one float32 input as tensor_content
        import numpy as np

        from serving import tfs_stubs as tfs

        spec = request["message_spec"]
        message = tfs.predict_pb2.PredictRequest()
        message.model_spec.name = spec["model"]
        tensor = message.inputs[spec["input"]]
        tensor.dtype = 1
        tensor.tensor_shape.dim.add(size=spec["count"])
        tensor.tensor_content = np.full(spec["count"], spec["value"], "<f4").tobytes()
        return bytes(message.SerializeToString())
    return b""


def as_content(request: dict[str, Any], model_base: str) -> dict[str, Any] | None:
    """A Predict of one tensor of numbers with its values in `tensor_content`, which means the same; None where there is none."""
    from google.protobuf.message import DecodeError

    from serving import tfs_stubs as tfs
    from serving.embedded import tensors
    from serving.embedded.errors import ServingError

    try:
        message = tfs.predict_pb2.PredictRequest.FromString(
            grpc_bytes(request, (tfs.predict_pb2.PredictRequest, None), model_base)
        )
        ((alias, proto),) = message.inputs.items()
        array = tensors.to_numpy(proto, alias)
    except (DecodeError, ServingError, ValueError):
        return None
    if array.dtype == object or not array.size:
        return None
    plain = tfs.tensor_pb2.TensorProto(dtype=proto.dtype, tensor_shape=proto.tensor_shape, tensor_content=array.tobytes())
    message.inputs[alias].CopyFrom(plain)
    given = {key: value for key, value in request.items() if not key.startswith("message")}
    return {**given, "message_base64": base64.b64encode(message.SerializeToString()).decode()}


def grpc_send(channel: Any, request: dict[str, Any], model_base: str) -> Answer:
    import grpc
    from google.protobuf import json_format

    types = _message_types().get(f"{request['service']}/{request['method']}")
    data = grpc_bytes(request, types, model_base)
    call = channel.unary_unary(f"/{request['service']}/{request['method']}")
    try:
        out, done = call.with_call(data, timeout=request.get("timeout_s", 60))
    except grpc.RpcError as error:
        answer: Answer = {"code": error.code().name, "details": error.details()}
        keys = sorted(key for key, _ in error.trailing_metadata() or ())
        return {**answer, "trailing_metadata_keys": keys} if keys else answer
    answer = {"code": done.code().name, "details": done.details()}
    keys = sorted(key for key, _ in [*(done.initial_metadata() or ()), *(done.trailing_metadata() or ())])
    if keys:
        answer["metadata_keys"] = keys
    if types is None:
        return {**answer, "message_base64": base64.b64encode(out).decode()}
    message = types[1].FromString(out)
    if len(out) > LARGEST_MESSAGE:
        answer["message_size"] = len(out)
    else:
        answer["message"] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    if hasattr(message, "outputs"):
        answer["outputs_encoding"] = {
            name: [field for field in VALUE_FIELDS if len(getattr(tensor, field))]
            for name, tensor in sorted(message.outputs.items())
        }
    return answer


def run(case: dict[str, Any], rest_port: int, channel: Any, model_base: str) -> Answer:
    """The answer to a case's request, with the model folder's path taken out."""
    if case["protocol"] == "rest":
        answer = rest_send(rest_port, case["request"], model_base)
    else:
        answer = grpc_send(channel, case["request"], model_base)
    return dict(json.loads(json.dumps(answer).replace(model_base, "{MODEL_BASE}")))


def comparable(case: dict[str, Any], answer: Answer) -> Any:
    """What of an answer the case compares: exact (all) | json (key order may vary) | code | status."""
    how = case.get("compare", "exact")
    if how in ("code", "status"):
        return answer.get(how)
    if how == "json" and "body" in answer:
        try:
            return {**answer, "body": json.loads(answer["body"])} | {
                "body": json.dumps(json.loads(answer["body"]), sort_keys=True)
            }
        except ValueError:
            return answer
    return answer
