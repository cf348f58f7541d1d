"""TensorFlow Serving's command line, in its own syntax.

`--name=value`; a boolean is `--name`, `--name=true` or `--name=false`. No abbreviations, no `--name value`.
A flag is served, accepted (it has no meaning here, and is logged), or refused (it has a meaning that is not built).
Nothing large is imported, so that --help answers at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from serving.embedded import NAME

ENGINES = ("tensorflow", "onnxruntime")  # what may run the models (loading.py)
TRANSPORTS = ("core", "aio")
EXIT_REFUSED = 255  # what the real server ends with on a bad start


class FlagError(ValueError):
    """A command line that cannot be started; the message is one line."""


def _flag(default: Any, text: str, kind: str = "served") -> Any:
    return field(default=default, metadata={"help": text, "kind": kind})


@dataclass(frozen=True, kw_only=True)
class Flags:
    """One field a flag; names, types and defaults are TensorFlow Serving 2.20's."""

    port: int = _flag(8500, "TCP port to listen on for gRPC; 0 opens none")
    rest_api_port: int = _flag(0, "port of the HTTP/REST API; 0 opens none; must differ from --port")
    bind: str = _flag("127.0.0.1", "(ours) address both ports listen on; the real server listens on all interfaces")
    processes: int = _flag(1, "(ours) processes that share the ports and answer; each holds every model")
    engine: str = _flag("tensorflow", "(ours) what runs the models: tensorflow, or onnxruntime (version folders hold model.onnx)")
    grpc_transport: str = _flag(
        "core", "(ours) what carries gRPC: core (grpcio's C core driven directly) or aio (its public interface)"
    )
    model_name: str = _flag("default", "name of the model (ignored with --model_config_file)")
    model_base_path: str = _flag("", "absolute folder with numeric version folders (ignored with --model_config_file)")
    model_config_file: str = _flag("", "text-format ModelServerConfig: several models, version policies, labels")
    model_config_file_poll_wait_seconds: int = _flag(0, "seconds between looks at the model config file; 0 never")
    file_system_poll_wait_seconds: int = _flag(1, "seconds between looks for new versions; 0 looks once; negative never")
    allow_version_labels_for_unavailable_models: bool = _flag(False, "accept new labels of versions that are not loaded")
    force_allow_any_version_labels_for_unavailable_models: bool = _flag(False, "and let labels move to such versions")
    max_num_load_retries: int = _flag(5, "how often a failed load is tried again")
    load_retry_interval_micros: int = _flag(60_000_000, "microseconds between those tries")
    enable_batching: bool = _flag(False, "batch by --batching_parameters_file instead of naturally")
    batching_parameters_file: str = _flag("", "text-format BatchingParameters")
    allow_batching_parameters_from_saved_model: bool = _flag(False, "use batching_params.pbtxt of a version", "refused")
    monitoring_config_file: str = _flag("", "text-format MonitoringConfig; serves Prometheus metrics over REST")
    rest_api_timeout_in_ms: int = _flag(30_000, "time limit of one REST call")
    rest_api_enable_cors_support: bool = _flag(False, "add CORS headers to REST answers")
    rest_api_num_threads: int = _flag(0, "the event loop needs no such pool", "accepted")
    enable_grpc_healthcheck_service: bool = _flag(False, "serve grpc.health.v1.Health")
    grpc_max_threads: int = _flag(0, "the event loop needs no such pool", "accepted")
    grpc_channel_arguments: str = _flag("", "comma-separated key=value pairs for the gRPC server")
    grpc_socket_path: str = _flag("", "also listen on a UNIX socket", "refused")
    ssl_config_file: str = _flag("", "text-format SSLConfig: TLS for gRPC (REST stays plain, as the real server's)")
    saved_model_tags: str = _flag("serve", "comma-separated tags of the graph to load")
    tensorflow_session_parallelism: int = _flag(0, "threads of a session, for both pools; 0 is one a core")
    tensorflow_intra_op_parallelism: int = _flag(0, "threads inside one operation")
    tensorflow_inter_op_parallelism: int = _flag(0, "operations at the same time")
    enable_signature_method_name_check: bool = _flag(False, "classify and regress only on signatures made for them")
    enable_serialization_as_tensor_content: bool = _flag(False, "answer gRPC with tensor_content")
    enable_model_warmup: bool = _flag(True, "replay assets.extra/tf_serving_warmup_requests at load")
    num_request_iterations_for_warmup: int = _flag(1, "how often each warm-up request runs", "accepted")
    num_load_threads: int = _flag(0, "loads run one after another here", "accepted")
    num_unload_threads: int = _flag(0, "unloads run at once here", "accepted")
    flush_filesystem_caches: bool = _flag(True, "left to the operating system here", "accepted")
    per_process_gpu_memory_fraction: float = _flag(0.0, "no GPU here", "accepted")
    platform_config_file: str = _flag("", "text-format PlatformConfigMap", "refused")
    remove_unused_fields_from_bundle_metagraph: bool = _flag(True, "memory saving of the C++ server", "accepted")
    prefer_tflite_model: bool = _flag(False, "serve model.tflite", "refused")
    use_tflite_model: bool = _flag(False, "serve model.tflite (older name)", "refused")
    enable_profiler: bool = _flag(True, "no profiler service here", "accepted")
    skip_initialize_tpu: bool = _flag(False, "no TPU here", "accepted")
    thread_pool_factory_config_file: str = _flag("", "thread pool factory", "refused")
    mixed_precision: str = _flag("", "mixed precision of the graph", "refused")
    tensorflow_use_synchronous_graph_execution: bool = _flag(False, "kernels already run in the calling thread", "accepted")
    version: bool = _flag(False, "print the version and leave")
    help: bool = _flag(False, "print this and leave")

    @property
    def intra_op_threads(self) -> int:
        """Threads inside one operation; 0 leaves it to TensorFlow."""
        return self.tensorflow_intra_op_parallelism or self.tensorflow_session_parallelism

    @property
    def inter_op_threads(self) -> int:
        """Operations at the same time; 0 leaves it to TensorFlow."""
        return self.tensorflow_inter_op_parallelism or self.tensorflow_session_parallelism


_TYPES = get_type_hints(Flags)
_FIELDS = {f.name: f for f in fields(Flags)}


def parse(argv: Sequence[str]) -> Flags:
    """The flags of a command line. Raises FlagError: unknown flag, bad value, flag that is not supported here."""
    values: dict[str, Any] = {}
    for argument in argv:
        name, value = parse_one(argument)
        refuse_unsupported(name, value)
        values[name] = value
    flags = Flags(**values)
    _check(flags)
    return flags


def parse_one(argument: str) -> tuple[str, Any]:
    """Name and value of one argument. Raises FlagError: unknown to TensorFlow Serving, or a bad value."""
    name, equals, text = argument.removeprefix("--").partition("=")
    if not argument.startswith("--") or name not in _FIELDS:
        raise FlagError(f"unknown argument: {argument} (see --help)")
    return name, _value(name, text if equals else None)


def refuse_unsupported(name: str, value: Any) -> None:
    """Raise FlagError where the flag asks for something that is not built here."""
    if _FIELDS[name].metadata["kind"] == "refused" and value != _FIELDS[name].default:
        raise FlagError(f"--{name} is a flag of TensorFlow Serving that {NAME} does not support: leave it out")


def accepted_without_effect(flags: Flags) -> list[str]:
    """Names of flags that were given and do nothing here, for the log."""
    return [
        name for name, spec in _FIELDS.items() if spec.metadata["kind"] == "accepted" and getattr(flags, name) != spec.default
    ]


def _check(flags: Flags) -> None:
    if flags.help or flags.version:
        return
    if not flags.model_base_path and not flags.model_config_file:
        raise FlagError("found neither --model_base_path nor --model_config_file: give one of them (see --help)")
    if not flags.model_config_file and not os.path.isabs(flags.model_base_path):  # noqa: PTH117  a string flag
        raise FlagError(
            f"Expected model {flags.model_name} to have an absolute path or URI; got base_path()={flags.model_base_path}"
        )
    if flags.batching_parameters_file and not flags.enable_batching:
        raise FlagError("--batching_parameters_file was given without --enable_batching: add it")
    if flags.processes < 1:
        raise FlagError(f"--processes={flags.processes}: expected at least 1")
    if flags.engine not in ENGINES:
        raise FlagError(f"--engine={flags.engine}: expected {' or '.join(ENGINES)}")
    if flags.grpc_transport not in TRANSPORTS:
        raise FlagError(f"--grpc_transport={flags.grpc_transport}: expected {' or '.join(TRANSPORTS)}")
    for name in ("port", "rest_api_port"):
        if not 0 <= getattr(flags, name) <= 65535:
            raise FlagError(f"--{name}={getattr(flags, name)}: expected 0 to 65535")
    if flags.port == 0 and flags.rest_api_port == 0:
        raise FlagError("--port and --rest_api_port are both 0: nothing would listen; give one of them")
    if flags.port == flags.rest_api_port:
        raise FlagError("--rest_api_port cannot be the same as --port: give two different ports")


def _value(name: str, text: str | None) -> Any:
    kind = _TYPES[name]
    if kind is bool:
        truth = {None: True, "true": True, "1": True, "false": False, "0": False}.get(text if text is None else text.lower())
        if truth is None:
            raise FlagError(f"Couldn't interpret value {text} for flag {name}: expected true or false")
        return truth
    if text is None:
        raise FlagError(f"--{name} needs a value: --{name}=VALUE")
    if kind is str:
        return text
    try:
        return kind(text)
    except ValueError as error:
        raise FlagError(f"Couldn't interpret value {text} for flag {name}: expected {kind.__name__}") from error


def usage() -> str:
    """The --help text."""
    lines = [
        "usage: python -m serving.embedded --flag=value ...",
        f"{NAME}: a Python server of TensorFlow Serving's API with its flags; it is not TensorFlow Serving.",
        "Flags:",
    ]
    for name, spec in _FIELDS.items():
        kind = {"accepted": " [accepted, no effect]", "refused": " [not supported]", "served": ""}[spec.metadata["kind"]]
        shown = str(spec.default).lower() if _TYPES[name] is bool else repr(spec.default)
        lines.append(f"  --{name}={shown}  {_TYPES[name].__name__}  {spec.metadata['help']}{kind}")
    return "\n".join(lines)
