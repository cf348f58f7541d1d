"""summary.json and the raw rows it was made of, held against each other: one Measurement each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceoff.errors import CorruptError, FaceoffError
from report import identity, percentiles, samples
from report.identity import Series
from report.percentiles import Percentile
from report.records import Run, reading
from report.samples import Samples


@dataclass(frozen=True, kw_only=True)
class Window:
    """One attempt at one stretch of a measurement, as the load test judged it."""

    index: int
    attempt: int
    p50_ms: float | None
    p99_ms: float | None
    throughput_rps: float | None
    flags: tuple[str, ...]
    accepted: bool


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measurement. Latencies are recomputed from raw rows; everything else is the summary's."""

    id: str
    server: str
    protocol: str
    encoding: str
    scenario: str
    artifact_format: str
    precision: str  # "" where a summary does not say
    load_kind: str
    load_value: float
    num_rows_per_request: int
    repeat: int
    slo_ms: float | None
    valid: bool
    invalid_reasons: tuple[str, ...]
    num_requests: int
    num_errors: int
    num_wrong: int
    throughput_rps: float | None
    offered_rps: float | None  # the rate of the moments that were drawn; None in a closed loop
    goodput_rps: float | None
    percentiles: tuple[Percentile, ...]
    mean_ms: float | None
    max_ms: float | None
    windows: tuple[Window, ...]
    client: dict[str, Any]
    server_ms: dict[str, Any]
    server_use: dict[str, Any]
    encode_us: float | None
    decode_us: float | None
    null_server: dict[str, Any]
    search: dict[str, Any]
    cores: Any
    samples: Samples | None
    visit: str = ""  # of `make compare`: which of its visits this belongs to

    @property
    def series(self) -> Series:
        """The server's look."""
        return identity.server(self.server, self.precision)

    @property
    def way(self) -> str:
        """Protocol and encoding: only measurements of the same way are comparable."""
        return identity.way(self.protocol, self.encoding)

    @property
    def name(self) -> str:
        """What people call it."""
        again = f" · visit {self.visit}" if self.visit else f" · repeat {self.repeat}" if self.repeat > 1 else ""
        rows = f" · {self.num_rows_per_request} rows" if self.num_rows_per_request != 1 else ""
        return f"{self.series.label} · {self.way}{rows}{again}"

    def percentile(self, name: str) -> Percentile | None:
        """One of its percentiles; None when nothing succeeded."""
        return next((found for found in self.percentiles if found.name == name), None)


def load(run: Run) -> list[Measurement]:
    """Every measurement of the run, in an order that keeps comparable ones together.

    Raises CorruptError for what cannot be read, FaceoffError when the summary contradicts its own raw rows.
    """
    path, command = run.directory / "summary.json", f"make loadtest RUN={run.name}"
    found = []
    for data in run.summary["measurements"]:
        with reading(path, command):
            found.append(_measurement(run, data, command))
    return sorted(
        found,
        key=lambda m: (m.scenario, m.protocol != "rest", m.encoding, m.num_rows_per_request, identity.rank(m.server), m.repeat),
    )


def scenarios(found: list[Measurement]) -> list[str]:
    """The scenarios measured; the open loop, which is what users feel, first."""
    return sorted({m.scenario for m in found}, key=lambda name: (name != "server", name))


def _measurement(run: Run, data: dict[str, Any], command: str) -> Measurement:
    rows = _samples(run, data, command)
    found = percentiles.all_of(rows.ordered_ms, rows.num_failed) if rows else ()
    if rows:
        _cross_check(data, rows, command)
    ordered = rows.ordered_ms if rows else np.zeros(0)
    return Measurement(
        id=data["id"],
        server=data["server"],
        protocol=data["protocol"],
        encoding=data["encoding"],
        scenario=data["scenario"],
        artifact_format=data.get("artifact_format") or "",
        precision=data.get("precision") or "",
        load_kind=data["load"]["kind"],
        load_value=float(data["load"]["value"]),
        num_rows_per_request=int(data.get("num_rows_per_request") or 1),
        repeat=int(data.get("repeat") or 1),
        slo_ms=data.get("slo_ms"),
        valid=bool(data["valid"]),
        invalid_reasons=tuple(data["invalid_reasons"]),
        num_requests=int(data["num_requests"]),
        num_errors=int(data["num_errors"]),
        num_wrong=int(data["num_wrong"]),
        throughput_rps=data["throughput_rps"],
        offered_rps=data.get("offered_rps"),
        goodput_rps=data.get("goodput_rps"),
        percentiles=found,
        mean_ms=float(ordered.mean()) if len(ordered) else None,
        max_ms=float(ordered[-1]) if len(ordered) else None,
        windows=_windows(data.get("windows") or []),
        client=data.get("client") or {},
        server_ms=data.get("server_ms") or {},
        server_use=data.get("server_use") or {},
        encode_us=data.get("encode_us"),
        decode_us=data.get("decode_us"),
        null_server=data.get("null_server") or {},
        search=data.get("search") or {},
        cores=data.get("cores"),
        samples=rows,
        visit=str(data.get("visit") or ""),
    )


def _windows(attempts: list[dict[str, Any]]) -> tuple[Window, ...]:
    """Every attempt at every window; the last at each is the one whose rows count."""
    last = {int(data["window"]): place for place, data in enumerate(attempts)}
    return tuple(
        Window(
            index=int(data["window"]),
            attempt=int(data["repeat"]),
            p50_ms=data.get("p50_ms"),
            p99_ms=data.get("p99_ms"),
            throughput_rps=data.get("throughput_rps"),
            flags=tuple(data.get("flags") or ()),
            accepted=last[int(data["window"])] == place,
        )
        for place, data in enumerate(attempts)
    )


def _samples(run: Run, data: dict[str, Any], command: str) -> Samples | None:
    if not data["samples"]:
        return None  # a measurement that never got as far as a request
    path = _inside(run, str(data["samples"]))
    if path is None:
        raise CorruptError(f"found no raw samples {data['samples']} of {data['id']} in {run.directory}; run again: {command}")
    return samples.read(path, command=command)


def _inside(run: Run, name: str) -> Path | None:
    """The file a summary names, relative to the run or to its samples/; never one outside the run."""
    root = run.directory.resolve()
    candidates = (run.directory / name, run.directory / "samples" / Path(name).name)
    return next((path for path in candidates if path.is_file() and path.resolve().is_relative_to(root)), None)


def _cross_check(data: dict[str, Any], rows: Samples, command: str) -> None:
    """The summary must say what its raw rows say."""
    wrong = percentiles.contradictions(rows.ordered_ms, data.get("latency_ms") or {}, rows.num_failed)
    if wrong:
        raise FaceoffError(
            f"measurement {data['id']} of summary.json contradicts its samples: {'; '.join(wrong)}; run again: {command}"
        )
