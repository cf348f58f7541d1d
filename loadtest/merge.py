"""Several workers' results of one load test as one: every row is there once, and the figures are computed from all rows.

A measurement's counts and rates are the workers' sums; its latencies, intervals and .hgrm come from the merged rows; it is VALID
when it is at every worker. What is the server's (its memory, its own times) is as the first worker read it; its CPU a request is
None, because each worker saw the CPU of all and the requests of one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faceoff.errors import FaceoffError
from faceoff.store import write_atomic
from loadtest import measurement as measurement_module
from loadtest import rows as rows_module
from loadtest import summary

_SUMS = ("num_requests", "num_errors", "num_wrong", "throughput_rps", "rows_per_s", "offered_rps", "goodput_rps", "connections")


def merge(folders: Sequence[Path], directory: Path) -> list[dict[str, Any]]:
    """Write samples and summary.json into `directory`; the merged records. Raises FaceoffError when rows are missing."""
    summaries = [summary.read(folder / summary.NAME) for folder in folders]
    names = [[m["id"] for m in found["measurements"]] for found in summaries]
    if any(other != names[0] for other in names):
        raise FaceoffError(f"the workers measured different things: {names}")
    merged = [_one(list(records), folders, directory) for records in zip(*(s["measurements"] for s in summaries), strict=True)]
    first = {**summaries[0], "measurements": merged, "workers": [found["environment"]["machine"] for found in summaries]}
    if (folders[0] / "records").is_dir():
        shutil.copytree(folders[0] / "records", directory / "records")
    write_atomic(directory / summary.NAME, json.dumps(first, indent=2, allow_nan=False) + "\n")
    return merged


def _one(records: list[dict[str, Any]], folders: Sequence[Path], directory: Path) -> dict[str, Any]:
    first = records[0]
    samples = directory / first["samples"]
    num_rows = _rows([folder / first["samples"] for folder in folders], samples)
    expected = sum(m["num_requests"] for m in records)
    if num_rows != expected:
        raise FaceoffError(f"{first['id']}: the workers' rows are {num_rows}, they counted {expected}")
    figures = measurement_module.figures(
        samples, first["scenario"], first["slo_ms"] if first["goodput_rps"] is not None else None
    )
    reasons = [f"worker {at}: {reason}" for at, m in enumerate(records) for reason in m["invalid_reasons"]]
    return {
        **first,
        **{name: _sum([m[name] for m in records]) for name in _SUMS},
        "load": {"kind": first["load"]["kind"], "value": sum(m["load"]["value"] for m in records)},
        "duration_s": max(m["duration_s"] for m in records),
        "valid": not reasons,
        "invalid_reasons": reasons,
        "latency_ms": figures.latency_ms,
        "ci95_ms": figures.ci95_ms,
        "stability": summary.stability(figures.block_p50_ms),
        "server_use": {**first["server_use"], "cpu_us_per_request": None},
        "client": _client(records, figures.send_error_p99_ms),
        "windows": [{"worker": at, **window} for at, m in enumerate(records) for window in m["windows"]],
        "workers": [{name: m[name] for name in ("num_requests", "throughput_rps", "valid", "cores")} for m in records],
    }


def _rows(sources: Sequence[Path], place: Path) -> int:
    """Merge Parquet files, the windows of all workers side by side; the number of rows written."""
    import pyarrow.parquet as pq

    files = [pq.ParquetFile(path) for path in sources]
    try:
        with rows_module.File(place) as file:
            for group in range(max(file.num_row_groups for file in files)):
                for source in files:
                    if group < source.num_row_groups:
                        file.add(rows_module.from_table(source.read_row_group(group)))
            return file.num_rows
    finally:
        for source in files:
            source.close()


def _client(records: list[dict[str, Any]], send_error_p99_ms: float | None) -> dict[str, float | None]:
    """CPU a request is the mean over all requests; of the rest the worst worker's."""
    clients = [m["client"] for m in records]
    found: dict[str, float | None] = {
        name: max((c[name] for c in clients if c[name] is not None), default=None) for name in clients[0]
    }
    for name in ("cpu_us_per_request", "spin_us_per_request"):
        known = [(c[name], m["num_requests"]) for c, m in zip(clients, records, strict=True) if c[name] is not None]
        num = sum(count for _, count in known)
        found[name] = sum(value * count for value, count in known) / num if num else None
    return {**found, "send_error_p99_ms": send_error_p99_ms}


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
