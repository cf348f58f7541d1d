"""TensorFlow Serving's configuration files: models, batching parameters, monitoring; all protobuf text format.

The model config's message is in tensorflow-serving-api. The others are not, so their descriptors are built
here, from tensorflow_serving/servables/tensorflow/session_bundle_config.proto and
tensorflow_serving/config/{monitoring,ssl}_config.proto (names and types are theirs; the text format has no numbers).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.embedded import NAME
from serving.embedded.errors import ServingError, invalid

if TYPE_CHECKING:
    from serving.embedded.flags import Flags

PLATFORM = "tensorflow"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model. Of the policies exactly one holds: `specific` if not empty, else `all_versions`, else `num_latest`."""

    name: str
    base_path: str
    num_latest: int = 1
    all_versions: bool = False
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)

    def aspired(self, found: list[int]) -> list[int]:
        """Which of the version folders found should be served, ascending."""
        ordered = sorted(found)
        if self.specific:
            return [version for version in ordered if version in self.specific]
        return ordered if self.all_versions else ordered[-self.num_latest :]


@dataclass(frozen=True, kw_only=True)
class BatchingConfig:
    """BatchingParameters; defaults are those of SharedBatchScheduler, with as many threads as processors."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    num_batch_threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    max_enqueued_batches: int = 10
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False


def single(name: str, base_path: str) -> list[ModelConfig]:
    """What --model_name and --model_base_path mean."""
    return [ModelConfig(name=name, base_path=base_path)]


def read_models(path: str) -> list[ModelConfig]:
    """--model_config_file. Raises ServingError."""
    from serving import tfs_stubs as tfs

    return models(_parse(path, tfs.model_server_config_pb2.ModelServerConfig()))


def models(proto: Any) -> list[ModelConfig]:
    """The models of a ModelServerConfig message; refusals in the real server's words. Raises ServingError."""
    if proto.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
        )
    configs: dict[str, ModelConfig] = {}
    for model in proto.model_config_list.config:
        platform = model.model_platform
        if model.model_type and platform:
            raise invalid(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
            )
        if not platform and not model.model_type:
            raise invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {model.name}"
            )
        if (platform or {1: PLATFORM}.get(model.model_type, "other")) != PLATFORM:
            raise invalid(f"Model {model.name} requests unsupported platform {platform or 'other'}")
        if not model.base_path.startswith("/"):
            raise invalid(f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}")
        if model.name in configs:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        configs[model.name] = _model(model)
    return list(configs.values())


def _model(model: Any) -> ModelConfig:
    policy = model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific" and not policy.specific.versions:
        raise invalid(f"model_version_policy.specific of model {model.name} lists no version")
    return ModelConfig(
        name=model.name,
        base_path=model.base_path,
        num_latest=max(1, policy.latest.num_versions) if kind == "latest" else 1,
        all_versions=kind == "all",
        specific=tuple(policy.specific.versions) if kind == "specific" else (),
        labels=dict(model.version_labels),
    )


@dataclass(frozen=True, kw_only=True)
class SslConfig:
    """SSLConfig: PEM texts. With `client_verify` a client must show a certificate that `custom_ca` signed."""

    server_key: str
    server_cert: str
    custom_ca: str = ""
    client_verify: bool = False


def read_ssl(path: str) -> SslConfig:
    """--ssl_config_file. Raises ServingError."""
    proto = _parse(path, _message("SSLConfig"))
    if not proto.server_key or not proto.server_cert:
        raise invalid(f"{path}: expected server_key and server_cert, each a PEM text")
    return SslConfig(
        server_key=proto.server_key,
        server_cert=proto.server_cert,
        custom_ca=proto.custom_ca,
        client_verify=proto.client_verify,
    )


def batching(flags: Flags) -> BatchingConfig | None:
    """What --enable_batching and its file ask for; None for natural batching. Raises ServingError."""
    if not flags.enable_batching:
        return None
    return read_batching(flags.batching_parameters_file) if flags.batching_parameters_file else BatchingConfig()


def read_batching(path: str) -> BatchingConfig:
    """--batching_parameters_file. Raises ServingError."""
    proto = _parse(path, _message("BatchingParameters"))
    if proto.enable_large_batch_splitting.value:
        raise invalid(f"{path}: enable_large_batch_splitting is not supported by {NAME}: leave it out")
    values: dict[str, Any] = {
        name: getattr(proto, name).value
        for name in ("max_batch_size", "batch_timeout_micros", "num_batch_threads", "max_enqueued_batches")
        if proto.HasField(name)
    }
    config = BatchingConfig(
        allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
        pad_variable_length_inputs=proto.pad_variable_length_inputs,
        **values,
    )
    if min(config.max_batch_size, config.num_batch_threads, config.max_enqueued_batches) < 1:
        raise invalid("batching parameters must be positive")
    sizes = config.allowed_batch_sizes
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != config.max_batch_size):
        raise invalid("allowed_batch_sizes entries must increase monotonically and end with max_batch_size")
    return config


def read_monitoring(path: str) -> str | None:
    """--monitoring_config_file: the path metrics are served at, None where they are switched off."""
    proto = _parse(path, _message("MonitoringConfig")).prometheus_config
    return str(proto.path or "/monitoring/prometheus/metrics") if proto.enable else None


def _parse(path: str, message: Any) -> Any:
    from google.protobuf import text_format

    try:
        return text_format.Parse(Path(path).read_text(), message)
    except OSError as error:
        raise ServingError(invalid("").code, f"{path}: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{path}' ({error})") from error


@cache
def _messages() -> dict[str, type[Any]]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf import wrappers_pb2 as wrappers

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="faceoff/embedded_config.proto", package="faceoff.embedded", syntax="proto3", dependency=[wrappers.DESCRIPTOR.name]
    )

    def message(name: str, *entries: tuple[str, int, Any, str]) -> None:
        proto = file.message_type.add(name=name)
        for field_name, number, kind, type_name in entries:
            repeated = field_name == "allowed_batch_sizes"
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            proto.field.add(name=field_name, number=number, label=label, type=kind, type_name=type_name or None)

    boxed = [("max_batch_size", 1, "Int64"), ("batch_timeout_micros", 2, "Int64"), ("max_enqueued_batches", 3, "Int64")]
    boxed += [("num_batch_threads", 4, "Int64"), ("thread_pool_name", 5, "String")]
    boxed += [("enable_large_batch_splitting", 8, "Bool"), ("max_execution_batch_size", 9, "Int64")]
    message(
        "BatchingParameters",
        *[(name, number, kinds.TYPE_MESSAGE, f".google.protobuf.{kind}Value") for name, number, kind in boxed],
        ("allowed_batch_sizes", 6, kinds.TYPE_INT64, ""),
        ("pad_variable_length_inputs", 7, kinds.TYPE_BOOL, ""),
    )
    message("PrometheusConfig", ("enable", 1, kinds.TYPE_BOOL, ""), ("path", 2, kinds.TYPE_STRING, ""))
    message("MonitoringConfig", ("prometheus_config", 1, kinds.TYPE_MESSAGE, ".faceoff.embedded.PrometheusConfig"))
    message(
        "SSLConfig",
        *[(name, number, kinds.TYPE_STRING, "") for number, name in enumerate(("server_key", "server_cert", "custom_ca"), 1)],
        ("client_verify", 4, kinds.TYPE_BOOL, ""),
    )
    pool = descriptor_pool.DescriptorPool()
    dependency = descriptor_pb2.FileDescriptorProto()
    wrappers.DESCRIPTOR.CopyToProto(dependency)
    pool.Add(dependency)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"faceoff.embedded.{name}"))
        for name in ("BatchingParameters", "MonitoringConfig", "SSLConfig")
    }


def _message(name: str) -> Any:
    return _messages()[name]()
