"""TensorFlow Serving as a server under test: Google's `tensorflow_model_server`, where it can be found.

Flags: https://www.tensorflow.org/tfx/serving/serving_config. It binds all interfaces, which no flag changes;
deploy says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from faceoff import golden, progress
from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError
from serving import metrics, running
from serving.client import DIRECT, get_json
from serving.embedded import flags
from serving.lifecycle import HOST, Job, Launch, Served, Server
from serving.metrics import ServerMetrics
from serving.running import Compute
from serving.settings import Choice, Table, Whole
from serving.tfserving import config

# Flags that deploy passes itself, from the job and the other settings.
OURS = (
    *("port", "rest_api_port", "bind", "model_name", "model_base_path", "model_config_file", "monitoring_config_file"),
    *("enable_batching", "batching_parameters_file", "engine", "version", "help"),
)


@dataclass(frozen=True, kw_only=True)
class FlagTable(Table):
    """The setting `flags`: TF Serving's own, with values of their types. `supported_here`: that the embedded server has, too."""

    supported_here: bool
    reserved: Collection[str] = OURS

    def expected(self, value: Any) -> str | None:
        """See Kind."""
        if problem := super().expected(value):
            return problem
        try:
            for name, item in value.items():
                _, parsed = flags.parse_one(f"--{name}={_flag(item)}")
                if self.supported_here:
                    flags.refuse_unsupported(name, parsed)
        except flags.FlagError as error:
            return f"flags it takes: {error}"
        return None


@dataclass(frozen=True)
class Batching:
    """The setting `batching`: null, or BatchingParameters that TF Serving accepts."""

    def expected(self, value: Any) -> str | None:
        """See Kind."""
        if value is None:
            return None
        if not isinstance(value, dict) or (unknown := set(value) - {*config.BATCHING, "allowed_batch_sizes"}):
            found = f", not {', '.join(sorted(map(str, unknown)))}" if isinstance(value, dict) else " or null"
            return f"a table of {', '.join(config.BATCHING)} and allowed_batch_sizes{found}"
        # The server refuses requests of more rows than max_batch_size, and parity sends golden.BATCH_SIZES.
        leasts = {"batch_timeout_micros": 0, "max_batch_size": max(golden.BATCH_SIZES)}
        for name, number in value.items():
            least = leasts.get(name, 1)
            if name != "allowed_batch_sizes" and (wanted := Whole(least=least).expected(number)):
                return f"{wanted} for {name}"
        sizes = value.get("allowed_batch_sizes", [])
        whole = isinstance(sizes, list) and not any(Whole().expected(size) for size in sizes)
        if not whole or (sizes and (sizes != sorted(set(sizes)) or sizes[-1] != value.get("max_batch_size"))):
            return "allowed_batch_sizes to increase and to end with max_batch_size"
        return None


class TfServingApi(Server):
    """What the real server and the embedded one have in common: the API, the flags, how readiness is asked."""

    artifact_format = "saved_model"
    schema: ClassVar = {
        "artifact": Choice(("saved_model", "saved_model-xla", "saved_model-bf16")),
        "version_policy": Choice(("specific", "all", "latest")),
        "flags": FlagTable(supported_here=False),
        "environment": Table(),
        "batching": Batching(),
        "warmup_requests": Whole(least=0),
    }

    @classmethod
    def servable_format(cls, settings: Mapping[str, Any]) -> str:
        """The setting `artifact`, by the name that export gives it."""
        return str(settings["artifact"])

    @classmethod
    def check_job(cls, job: Job) -> None:
        """Raise UsageError for several versions of a model where the setting `version_policy` has just the latest served."""
        for model, served in job.models.items():
            if job.settings["version_policy"] == "latest" and len(served) > 1:
                versions = [one.version for one in served]
                raise UsageError(
                    f"settings of {cls.name}: found version_policy='latest', which serves version {max(versions)} of {model!r} "
                    f"alone, and VERSION={','.join(map(str, versions))}; expected one version, or version_policy specific or all"
                )

    def program(self) -> list[str]:
        """The command that takes TF Serving's flags."""
        raise NotImplementedError

    def implementation(self) -> str:
        """Name and version of what runs."""
        raise NotImplementedError

    def lay_out(self, base_path: Path, versions: dict[int, Path]) -> Path:
        """The base path of a model's versions."""
        return config.link_versions(base_path, versions)

    def launch(self) -> Launch:
        """Write the model config, monitoring and batching files; the flags of the preset, on the chosen ports."""
        settings, work = self.job.settings, self.job.workdir
        models = {}
        for model, served in self.job.models.items():
            base_path = self.lay_out(work / "models" / model, {one.version: one.artifact for one in served})
            models[model] = (base_path, [one.version for one in served])
        listed = config.write_models(work / "models.config", models, policy=settings["version_policy"], labels=self.job.labels)
        given = {
            "port": self.ports["tfserving grpc"],
            "rest_api_port": self.ports["tfserving rest"],
            "model_config_file": listed,
            "monitoring_config_file": config.write_monitoring(work / "monitoring.config"),
        }
        if self.job.labels:
            # Labels of the first configuration are refused without it: no version is loaded yet.
            given["allow_version_labels_for_unavailable_models"] = True
        if settings.get("batching"):
            written = config.write_batching(work / "batching.config", settings["batching"])
            given |= {"enable_batching": True, "batching_parameters_file": written}
        argv = [*self.program(), *(f"--{name}={_flag(value)}" for name, value in {**given, **settings["flags"]}.items())]
        env = {"TF_CPP_MIN_LOG_LEVEL": "1", **{name: str(value) for name, value in settings["environment"].items()}}
        if self.job.device == "cpu":
            env["CUDA_VISIBLE_DEVICES"] = ""
        return Launch(argv=argv, env=env, cwd=work)

    def endpoint(self, served: Served) -> Endpoint:
        """Both ports, and the monitoring page on the REST one."""
        rest_url = f"http://{HOST}:{self.ports['tfserving rest']}"
        return Endpoint(
            server=self.name,
            model=served.model,
            version=served.version,
            rest_url=rest_url,
            grpc_target=f"{HOST}:{self.ports['tfserving grpc']}",
            metrics_url=rest_url + config.METRICS_PATH,
            device=self.job.device,
            settings={**self.job.settings, "cores": list(self.job.cores), "labels": dict(self.job.labels)},
            artifact_format=self.job.artifact_format,
            precision=served.precision,
            tolerance=served.tolerance,
            implementation=self.implementation() if self.owned else "",
            export_sha256=served.export_sha256,
            pids=[self.owned.pid] if self.owned else [],
        )

    @classmethod
    def is_ready(cls, endpoint: Endpoint) -> bool:
        """AVAILABLE over REST and over gRPC: with a bad configuration one of them can be up without the other."""
        states = _version_states(endpoint)
        return states.get(str(endpoint.version)) == "AVAILABLE" and _grpc_available(endpoint)

    @classmethod
    def reported(cls, endpoint: Endpoint) -> dict[str, Any]:
        """The states of its versions, its signatures, and the flags it runs with (of the process: it has no API for them)."""
        url = f"{endpoint.rest_url}/v1/models/{endpoint.model}/versions/{endpoint.version}/metadata"
        signatures = ((get_json(url) or {}).get("metadata", {}).get("signature_def", {}).get("signature_def", {})).keys()
        return {
            "versions": _version_states(endpoint, of_all=True),
            "signatures": sorted(signatures),
            "flags": _flags_in_force(endpoint.pids),
        }

    @classmethod
    def compute(cls, endpoint: Endpoint) -> Compute:
        """By the flags of the process and the batching file they name; 0 threads means one a core, as TensorFlow counts them."""
        given = _flags_in_force(endpoint.pids)
        every = len(running.cores(endpoint.pids))
        session = int(given.get("tensorflow_session_parallelism", 0))
        threads = {
            kind: int(given.get(f"tensorflow_{kind}_op_parallelism", 0)) or session or every for kind in ("intra", "inter")
        }
        found = Compute(
            pids=tuple(endpoint.pids),
            artifact=cls.artifact_of(endpoint),
            instances=1,
            intra_op_threads=threads["intra"],
            inter_op_threads=threads["inter"],
            batching="none",
            max_batch=1,
            batch_unit="requests",
            max_batch_delay_ms=0.0,
        )
        if given.get("enable_batching") != "true":
            return found
        from serving.embedded.config import BatchingConfig, read_batching

        path = given.get("batching_parameters_file")
        batching = read_batching(path) if path else BatchingConfig()
        delay_ms = batching.batch_timeout_micros / 1e3
        return replace(found, batching="timed", max_batch=batching.max_batch_size, batch_unit="rows", max_batch_delay_ms=delay_ms)

    @classmethod
    def artifact_of(cls, endpoint: Endpoint) -> str | None:
        """What the running server was told to load: the folder of the version in the model file that its command line names."""
        from serving.embedded.config import read_models

        listed = _flags_in_force(endpoint.pids).get("model_config_file")
        if endpoint.container or listed is None:
            return None
        base_path = next((Path(model.base_path) for model in read_models(listed) if model.name == endpoint.model), None)
        return str((base_path / str(endpoint.version)).resolve()) if base_path else None

    @classmethod
    def metrics(cls, endpoint: Endpoint) -> ServerMetrics:
        """Of the model: the page tells no versions apart."""
        assert endpoint.metrics_url is not None
        return metrics.tfserving(metrics.read(endpoint.metrics_url), endpoint.model)


class TfServing(TfServingApi):
    """The real one."""

    name = "tfserving"
    standard_ports: ClassVar = {"tfserving grpc": 8500, "tfserving rest": 8501}

    @classmethod
    def check(cls) -> None:
        """Raise UsageError when there is no executable tensorflow_model_server."""
        if find_model_server() is None:
            raise UsageError(
                "found no tensorflow_model_server: expected it at TENSORFLOW_MODEL_SERVER=<path> or on PATH; "
                "SERVERS=tfserving-embedded is our own server behind the same API"
            )

    def program(self) -> list[str]:
        """The executable that was found."""
        return [str(find_model_server())]

    def implementation(self) -> str:
        """What `--version` says, e.g. `TensorFlow ModelServer: 2.20.0`."""
        done = subprocess.run([*self.program(), "--version"], capture_output=True, text=True, timeout=60, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines()
        return lines[0] if lines else "tensorflow_model_server, version unknown"

    def launch(self) -> Launch:
        """Say aloud that it listens everywhere."""
        progress.say("deploy: tensorflow_model_server listens on all interfaces (it has no flag for an address)")
        return super().launch()


def find_model_server() -> Path | None:
    """TENSORFLOW_MODEL_SERVER when set, else `tensorflow_model_server` on PATH, else None.

    Raises UsageError when TENSORFLOW_MODEL_SERVER names something that cannot be run.
    """
    named = os.environ.get("TENSORFLOW_MODEL_SERVER")
    if named:
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise UsageError(f"TENSORFLOW_MODEL_SERVER={named}: found no executable file there; expected tensorflow_model_server")
        return Path(named).resolve()
    found = shutil.which("tensorflow_model_server")
    return Path(found) if found else None


def _version_states(endpoint: Endpoint, *, of_all: bool = False) -> dict[str, str]:
    path = f"/v1/models/{endpoint.model}" + ("" if of_all else f"/versions/{endpoint.version}")
    states = (get_json(endpoint.rest_url + path) or {}).get("model_version_status", [])
    return {str(status.get("version")): str(status.get("state")) for status in states}


def _grpc_available(endpoint: Endpoint) -> bool:
    import grpc

    from serving import tfs_stubs as tfs

    request = tfs.get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = endpoint.model
    request.model_spec.version.value = endpoint.version
    with grpc.insecure_channel(endpoint.grpc_target, options=[DIRECT]) as channel:
        try:
            answer = tfs.model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=2.0)
        except grpc.RpcError:
            return False
    available = tfs.get_model_status_pb2.ModelVersionStatus.AVAILABLE
    return any(status.version == endpoint.version and status.state == available for status in answer.model_version_status)


def _flags_in_force(pids: list[int]) -> dict[str, str]:
    words = running.command_line(pids[0]) if pids else []
    pairs = (word.removeprefix("--").partition("=") for word in words if word.startswith("--"))
    return {name: value if equals else "true" for name, equals, value in pairs}


def _flag(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
