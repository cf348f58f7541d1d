"""What a visited server and its load really were: read from the running server, its processes and the load suite's rows.

Our configuration is not asked. The names of the facts are those of presets/fairness.yaml; a fact that cannot be read is None,
which the fairness check calls unknown. Values are plain JSON, equal where the circumstances are equal.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faceoff import progress, servables
from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError
from faceoff.servables import Trained
from serving.protocols import codec
from serving.servers import server_class

AT_REST, BUSY = "at rest", "busy"
MOST_BUSY = 0.1  # of all cores' time: what a machine at rest may use
REST_SAMPLE_S = 0.25
REST_DEADLINE_S = 5.0
KEEP_ALIVE_PROBES = 3
# Variables that make arithmetic less exact than float32 says, on a CPU and on a GPU.
LOWER_PRECISION = ("ONEDNN_DEFAULT_FPMATH_MODE", "TF_ENABLE_AUTO_MIXED_PRECISION")
TF32 = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
# What `_running` tells.
RUNNING = ("cores", "threads", "instances", "batching", "device", "precision", "tf32", "allocator")
_STAT = Path("/proc/stat")
_GOVERNORS = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

Facts = dict[str, Any]

_LOOPS = {"connections": "closed", "rate": "open"}  # by the kind of a load


def of(endpoint: Endpoint, trained: Trained, measurements: Sequence[Mapping[str, Any]], folder: Path) -> Facts:
    """Every fact of one visit, while its server still runs. The measurements' `samples` are relative to `folder`."""
    signature = trained.signature
    judged = all(m["answers_judged"] and m["num_wrong"] == 0 for m in measurements)
    specs = [{"name": spec.name, "dtype": str(spec.wire_dtype), "shape": list(spec.shape)} for spec in signature.inputs]
    return {
        **_running(endpoint),
        "input_bytes": {protocol: _sizes(folder, measurements, protocol) for protocol in ("rest",)},
        "message_bytes": {protocol: _sizes(folder, measurements, protocol) for protocol in ("grpc",)},
        "encoding": sorted({f"{m['protocol']} {m['encoding']}, {m['num_rows_per_request']} row" for m in measurements}),
        # A server that changed its input would answer the raw rows wrongly.
        "preprocessing": {"where": "client", "inputs": specs} if judged else None,
        "keep_alive": kept_alive(endpoint, trained) and all(m["keep_alive"] for m in measurements),
        # By loop, not by scenario: a visit that had no time for max_qps has the connections of its other open loop.
        "connections": sorted({f"{m['protocol']} {_LOOPS[m['load']['kind']]} loop: {m['connections']}" for m in measurements}),
        "generator_cores": sorted({core for m in measurements for core in m["cores"]["generator"]}),
        "machine": machine(),
    }


def _running(endpoint: Endpoint) -> Facts:
    """What the server and /proc say (serving/running.py)."""
    try:
        found = server_class(endpoint.server).running(endpoint)
    except FaceoffError as error:  # the check calls it unknown; what was measured so far is not thrown away for it
        progress.say(f"{endpoint.server} could not be read while it ran: {error}")
        return dict.fromkeys(RUNNING)
    compute, environment = found.compute, found.environment
    policy = {"how": compute.batching, "largest": compute.max_batch, "of": compute.batch_unit, "ms": compute.max_batch_delay_ms}
    return {
        "cores": list(found.cores),
        "threads": compute.intra_op_threads,
        "instances": compute.instances,
        "batching": policy if compute.batching is not None else None,
        "device": "cuda" if any(map(_holds_gpu, found.pids)) else "cpu",
        "precision": precision(compute.artifact, environment, endpoint),
        "tf32": {name: environment[name] for name in TF32 if name in environment},
        "allocator": found.allocator,
    }


def precision(artifact: str | None, environment: Mapping[str, str], endpoint: Endpoint) -> Facts | None:
    """What is served, and what in the environment lowers it further; None where it is unknown.

    Served: as the export says of the file that the running server has loaded; where it does not tell which, what deploy gave it.
    """
    served = (servables.precision_of(Path(artifact)) if artifact else None) or endpoint.precision
    lowered_by = {name: environment[name] for name in LOWER_PRECISION if name in environment}
    return {"served": served, "lowered_by": lowered_by} if served else None


def _holds_gpu(pid: int) -> bool:
    """Whether the process has a device of the NVIDIA driver open."""
    try:
        return any(str(fd.readlink()).startswith("/dev/nvidia") for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def kept_alive(endpoint: Endpoint, trained: Trained) -> bool | None:
    """Whether the server answers several predictions on one HTTP connection."""
    way = codec(endpoint, trained.signature, "rest", "json").route
    body = codec(endpoint, trained.signature, "rest", "json").encode(trained.golden.rows(0, 1).inputs)
    connection = http.client.HTTPConnection(way.target, timeout=10)
    try:
        connection.connect()
        first = connection.sock
        for _ in range(KEEP_ALIVE_PROBES):
            connection.request("POST", way.path, body, {"Content-Type": way.content_type})
            answer = connection.getresponse()
            answer.read()
            if connection.sock is not first:  # http.client drops it when the server says it will close
                return False
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return True


def machine() -> dict[str, Any]:
    """What the machine's own settings are: they must not change between visits."""
    governors = sorted({path.read_text(encoding="ascii").strip() for path in Path("/").glob(_GOVERNORS.lstrip("/"))})
    try:
        huge_pages = _HUGE_PAGES.read_text(encoding="ascii").strip()
    except OSError:
        huge_pages = None
    return {"governors": governors, "transparent_huge_pages": huge_pages}


def at_rest(deadline_s: float = REST_DEADLINE_S) -> str:
    """`at rest` as soon as the machine is, while nothing is asked of the server; `busy` when it is not within the deadline."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        before = _ticks()
        time.sleep(REST_SAMPLE_S)
        busy, total = (after - earlier for after, earlier in zip(_ticks(), before, strict=True))
        if busy <= MOST_BUSY * max(1, total):
            return AT_REST
    return BUSY


def _ticks() -> tuple[int, int]:
    """Busy and all ticks of the machine so far (proc(5): user nice system idle iowait irq softirq steal)."""
    values = [int(value) for value in _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    return sum(values) - values[3] - values[4], sum(values)


def _sizes(folder: Path, measurements: Sequence[Mapping[str, Any]], protocol: str) -> list[int] | None:
    """The smallest and the largest request that was sent, in bytes without headers."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found = []
    for measurement in measurements:
        if measurement["protocol"] == protocol and measurement["num_requests"]:
            extremes = pc.min_max(pq.read_table(folder / measurement["samples"], columns=["bytes_out"])["bytes_out"])
            found += [extremes["min"].as_py(), extremes["max"].as_py()]
    return [min(found), max(found)] if found else None
