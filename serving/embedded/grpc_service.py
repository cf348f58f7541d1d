"""The gRPC services on raw bytes: PredictionService, ModelService and, where asked for, grpc.health.v1.Health.

No grpcio in here: transport_core and transport_aio carry the bytes. An unknown method is answered as the real server
answers it (UNIMPLEMENTED without details). Bytes that are no message of the method end in INTERNAL without details.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError

from serving import tfs_stubs as tfs
from serving.embedded import config, examples, tensors
from serving.embedded.api import Api, check_input_names, predict, signature_for_predict
from serving.embedded.errors import Code, ServingError, invalid
from serving.embedded.predict_fast import Parsed, Templates
from serving.embedded.versions import ModelSpec

log = logging.getLogger(__name__)

Method = Callable[[bytes], Awaitable[bytes]]

# The model that the request of this task names, for the monitoring page; every call is a task of its own.
_ASKED: ContextVar[list[str]] = ContextVar("asked")
_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"


class GrpcApi:
    """The methods; every one takes and gives serialized messages and raises ServingError."""

    def __init__(self, api: Api, *, health: bool = False) -> None:
        self._api = api
        self._templates = Templates()
        self.methods: dict[str, Method] = {
            _PREDICTION + "Predict": self._counted("Predict", self.predict),
            _PREDICTION + "Classify": self._counted("Classify", self.classify),
            _PREDICTION + "Regress": self._counted("Regress", self.regress),
            _PREDICTION + "MultiInference": self._counted("MultiInference", self.multi_inference),
            _PREDICTION + "GetModelMetadata": self.metadata,
            _MODEL + "GetModelStatus": self.status,
            _MODEL + "HandleReloadConfigRequest": self.reload,
        }
        if health:
            self.methods["/grpc.health.v1.Health/Check"] = self.health

    def _counted(self, name: str, method: Method) -> Method:
        """`method`, counted for the monitoring page under the model that its request names.

        Bytes that are no message never reach the real server's service, so they are not counted.
        """

        async def call(data: bytes) -> bytes:
            started, asked = time.perf_counter(), [""]
            _ASKED.set(asked)
            try:
                answer = await method(data)
            except DecodeError:
                raise
            except Exception as error:
                code = error.code if isinstance(error, ServingError) else Code.INTERNAL
                self._api.metrics.request(asked[0], name, "GRPC", code, time.perf_counter() - started)
                raise
            self._api.metrics.request(asked[0], name, "GRPC", Code.OK, time.perf_counter() - started)
            return answer

        return call

    async def predict(self, data: bytes) -> bytes:
        """PredictionService.Predict."""
        request = self._templates.find(data) or _parsed(data)
        spec = request.spec
        _tell_asked(spec.name)
        with self._api.manager.find(spec) as served:
            signature = signature_for_predict(served, spec.signature_name)
            check_input_names(signature, request.aliases)
            inputs = request.inputs(data)
            if isinstance(request, Parsed):
                self._templates.learn(data, request, inputs)
            result = await predict(self._api, spec, served, signature, inputs, output_filter=request.output_filter)
        parts = []
        for alias, array in result.outputs.items():
            proto = tensors.from_numpy(array, as_content=self._api.tensor_content)
            entry = tensors.field(b"\x0a", alias.encode()) + tensors.field(b"\x12", proto)
            parts.append(tensors.field(b"\x0a", entry))
        parts.append(_answered_by(result.model, result.version, result.signature))
        return b"".join(parts)

    async def classify(self, data: bytes) -> bytes:
        """PredictionService.Classify."""
        request = tfs.classification_pb2.ClassificationRequest.FromString(data)
        spec = _spec(request)
        with self._api.manager.find(spec) as served:
            signature, arrays, count = await examples.run_one(self._api, spec, served, examples.CLASSIFY, request.input)
        response = tfs.classification_pb2.ClassificationResponse()
        response.model_spec.CopyFrom(_model_spec(spec.name, served.model.version, signature.name))
        _fill_classes(response.result, examples.classifications(arrays, count))
        return bytes(response.SerializeToString())

    async def regress(self, data: bytes) -> bytes:
        """PredictionService.Regress."""
        request = tfs.regression_pb2.RegressionRequest.FromString(data)
        spec = _spec(request)
        with self._api.manager.find(spec) as served:
            signature, arrays, count = await examples.run_one(self._api, spec, served, examples.REGRESS, request.input)
        response = tfs.regression_pb2.RegressionResponse()
        response.model_spec.CopyFrom(_model_spec(spec.name, served.model.version, signature.name))
        for value in examples.regressions(arrays, count):
            response.result.regressions.add(value=value)
        return bytes(response.SerializeToString())

    async def multi_inference(self, data: bytes) -> bytes:
        """PredictionService.MultiInference."""
        request = tfs.inference_pb2.MultiInferenceRequest.FromString(data)
        tasks = [(_task_spec(task.model_spec), task.method_name) for task in request.tasks]
        first = tasks[0][0] if tasks else ModelSpec(name="")
        with self._api.manager.find(first) as served:
            found = await examples.run_many(self._api, served, tasks, request.input)
        response = tfs.inference_pb2.MultiInferenceResponse()
        for (spec, method), (signature, arrays, count) in zip(tasks, found, strict=True):
            result = response.results.add()
            result.model_spec.CopyFrom(_model_spec(spec.name, served.model.version, signature.name))
            if method == examples.CLASSIFY:
                result.classification_result.SetInParent()
                _fill_classes(result.classification_result, examples.classifications(arrays, count))
            else:
                result.regression_result.SetInParent()
                for value in examples.regressions(arrays, count):
                    result.regression_result.regressions.add(value=value)
        return bytes(response.SerializeToString())

    async def metadata(self, data: bytes) -> bytes:
        """PredictionService.GetModelMetadata."""
        request = tfs.get_model_metadata_pb2.GetModelMetadataRequest.FromString(data)
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported")
        spec = _spec(request)
        served = self._api.manager.find(spec)
        response = tfs.get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.CopyFrom(_model_spec(spec.name, served.model.version, ""))
        signatures = tfs.get_model_metadata_pb2.SignatureDefMap()
        for name, signature in served.model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature.proto)
        response.metadata["signature_def"].Pack(signatures)
        return bytes(response.SerializeToString())

    async def status(self, data: bytes) -> bytes:
        """ModelService.GetModelStatus; the label is ignored, as in the real server."""
        request = tfs.get_model_status_pb2.GetModelStatusRequest.FromString(data)
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        response = tfs.get_model_status_pb2.GetModelStatusResponse()
        for known in self._api.manager.statuses(spec.name, version):
            entry = response.model_version_status.add(version=known.version, state=int(known.state))
            entry.status.SetInParent()
            if known.code is not Code.OK:
                entry.status.error_code = int(known.code)
                entry.status.error_message = known.message
        return bytes(response.SerializeToString())

    async def reload(self, data: bytes) -> bytes:
        """ModelService.HandleReloadConfigRequest: answered when every model of the new configuration serves."""
        request = tfs.model_management_pb2.ReloadConfigRequest.FromString(data)
        await self._api.manager.configure(config.models(request.config))
        response = tfs.model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return bytes(response.SerializeToString())

    async def health(self, data: bytes) -> bytes:
        """grpc.health.v1.Health.Check: the server itself ("") is SERVING, no other name is known."""
        if data and not data.startswith(b"\x0a\x00"):
            raise ServingError(Code.NOT_FOUND, "service name unknown")
        return b"\x08\x01"


def _fill_classes(result: Any, rows: list[examples.Classes]) -> None:
    for classes in rows:
        target = result.classifications.add()
        for label, score in classes:
            target.classes.add(label=label.decode("utf-8", "replace"), score=score)


def _parsed(data: bytes) -> Parsed:
    message = tfs.predict_pb2.PredictRequest.FromString(data)
    return Parsed(message=message, spec=_spec(message))


def _tell_asked(name: str) -> None:
    asked = _ASKED.get(None)
    if asked is not None and not asked[0]:
        asked[0] = name


def _spec(request: Any) -> ModelSpec:
    """The ModelSpec of a request. Raises ServingError where it has none."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return _task_spec(request.model_spec)


def _task_spec(proto: Any) -> ModelSpec:
    _tell_asked(proto.name)
    choice = proto.WhichOneof("version_choice")
    return ModelSpec(
        name=proto.name,
        version=proto.version.value if choice == "version" else None,
        label=proto.version_label if choice == "version_label" else None,
        signature_name=proto.signature_name,
    )


def _model_spec(name: str, version: int, signature: str) -> Any:
    spec = tfs.model_pb2.ModelSpec(name=name, signature_name=signature)
    spec.version.value = version
    return spec


@lru_cache(maxsize=256)
def _answered_by(name: str, version: int, signature: str) -> bytes:
    """The last field of a PredictResponse."""
    return tensors.field(b"\x12", _model_spec(name, version, signature).SerializeToString())


async def unimplemented(data: bytes) -> bytes:
    """The method behind every name that is none of `GrpcApi.methods`."""
    raise ServingError(Code.UNIMPLEMENTED, "")


async def answered(method: Method, data: bytes) -> tuple[int, str, bytes | None]:
    """What a transport sends: the gRPC code, its details, and the message unless the code is an error's. Never raises."""
    try:
        return int(Code.OK), "", await method(data)
    except ServingError as error:
        return int(error.code), error.message, None
    except DecodeError:
        return int(Code.INTERNAL), "", None
    except Exception:
        log.exception("A gRPC request failed")
        return int(Code.INTERNAL), "Internal error; the server's log has the reason", None
