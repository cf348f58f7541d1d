"""From measurements to files: samples/*.parquet, summary.json and the copies that make a run self-contained."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faceoff import environment, progress
from faceoff.store import write_atomic
from loadtest import calibration, guard, watch
from loadtest.measurement import Attempt, Measurement
from loadtest.plan import Plan

NAME = "summary.json"


def write(plan: Plan, directory: Path, measurements: Iterable[Measurement]) -> dict[str, Any]:
    """Take the measurements as they come, their rows being in `directory`; write the rest; returns the summary."""
    records = [record(plan, measurement) for measurement in measurements]
    if plan.targets[0].endpoint.export_sha256:  # not of an endpoint of the user's own
        _copy_records(plan, directory / "records")
    summary = {
        "run": plan.options.run,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": plan.targets[0].endpoint.model,
        "profile": plan.profile.name,
        "environment": environment.record(),
        "config": plan.config(),
        "calibration": plan.calibration.to_dict() if plan.calibration else None,
        "measurements": records,
        "comparisons": [],
    }
    write_atomic(directory / NAME, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return summary


def read(path: Path) -> dict[str, Any]:
    """A summary that `write` wrote."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def record(plan: Plan, measurement: Measurement) -> dict[str, Any]:
    """One measurement as DESIGN.md describes it. Latencies are in ms, from the scheduled moment.

    A failed row ranks behind all others: a percentile that falls among them is None (faceoff.stats); mean and max are of the
    successful rows. `ci95_ms` leaves out a percentile that has too few rows for an interval. Extra: `windows` (every attempt),
    `cores`, `endpoint`, `offered_rps` (the rate of the moments drawn), `goodput_rps` (right and within the SLO), `rows_per_s`,
    `encode_us` and `decode_us` (encoding a request before the clock and decoding an answer after it; means), `null_server`,
    `stability`, `steps`, `search`, `server_use` (its CPU a request and RSS, what others used of its cores: loadtest/watch.py),
    `client.judging_us_per_request` (after the window).
    """
    endpoint, figures = measurement.target.endpoint, measurement.figures
    assert figures is not None
    span_s = measurement.span_s
    served = watch.total([attempt.use for attempt in measurement.accepted], measurement.total("num_requests"))
    return {
        "id": measurement.id,
        "samples": f"samples/{measurement.samples.name}",
        "model": endpoint.model,
        "version": endpoint.version,
        "server": endpoint.server,
        "implementation": endpoint.implementation,
        "server_settings_sha256": settings_sha256(endpoint.settings),
        "artifact_format": endpoint.artifact_format,
        "precision": endpoint.precision,
        "protocol": measurement.target.protocol,
        "encoding": measurement.target.encoding,
        "scenario": measurement.scenario,
        "load": {"kind": measurement.load_kind, "value": measurement.value},
        "connections": measurement.connections,
        "keep_alive": bool(plan.options.keep_alive),
        "num_rows_per_request": measurement.target.num_rows,
        "duration_s": span_s,
        "seed": plan.options.seed,
        "slo_ms": plan.slo_ms,
        "repeat": 1,
        "valid": not measurement.reasons,
        "invalid_reasons": measurement.reasons,
        "num_requests": measurement.total("num_requests"),
        "num_errors": measurement.total("num_errors"),
        "num_wrong": measurement.total("num_wrong"),
        "answers_judged": measurement.target.problem is not None,
        "throughput_rps": measurement.throughput_rps,
        "rows_per_s": measurement.throughput_rps * measurement.target.num_rows,
        "offered_rps": measurement.offered_rps,
        "goodput_rps": figures.num_good / span_s if measurement.slo_ms is not None and span_s > 0 else None,
        "latency_ms": figures.latency_ms,
        "ci95_ms": figures.ci95_ms,
        "server_ms": {"queue": served.queue_ms, "compute": served.compute_ms},
        "server_use": {
            "cpu_us_per_request": served.cpu_us_per_request,
            "rss_bytes": served.rss_bytes,
            "others_percent": served.others_percent,
        },
        "encode_us": measurement.encode_us,
        "decode_us": measurement.decode_us,
        "client": _client(measurement),
        "null_server": _null_server(plan, measurement),
        "stability": stability(figures.block_p50_ms),
        "steps": figures.steps,
        "search": measurement.search,
        "windows": [_window(attempt) for attempt in measurement.attempts],
        "cores": plan.cores.to_dict(),
        "endpoint": asdict(endpoint),
    }


def _null_server(plan: Plan, measurement: Measurement) -> dict[str, Any]:
    """The generator's own capacity, and what was measured of it."""
    if measurement.capacity_rps is not None:
        return {"capacity_rps": measurement.capacity_rps, "note": None}
    elsewhere = plan.calibration.elsewhere if plan.calibration else None
    if elsewhere:
        note = f"the calibration is of another machine ({elsewhere}): run {calibration.COMMAND}"
    else:
        note = f"without calibration, the load was not held against the generator's capacity: run {calibration.COMMAND}"
    return {"capacity_rps": None, "note": note}


def stability(block_p50_ms: tuple[float, ...] | None) -> dict[str, Any]:
    """What the steady-state rule saw."""
    if block_p50_ms is None:
        return {"judged": False, "stable_from": None, "block_p50_ms": None}
    return {"judged": True, "stable_from": guard.stable_from(block_p50_ms), "block_p50_ms": list(block_p50_ms)}


def settings_sha256(settings: dict[str, Any]) -> str:
    """The sha256 of the settings as canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def table(measurements: list[dict[str, Any]]) -> None:
    """Show every measurement on stderr, the reasons against the invalid ones below."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    lines = []
    for m in measurements:
        load = f"{m['load']['value']:.0f} {'conn' if m['load']['kind'] == 'connections' else 'req/s'}"
        latency = m["latency_ms"]
        encode = "-" if m.get("encode_us") is None else f"{m['encode_us']:.0f}"
        counts = (encode, m["num_requests"], m["num_errors"], m["num_wrong"])
        verdict = "VALID" if m["valid"] else "INVALID"
        lines.append((m["id"], load, *map(number, (latency["p50"], latency["p99"], m["throughput_rps"])), *counts, verdict))
    columns = ("measurement", "load", "p50 ms", "p99 ms", "req/s", "encode us", "requests", "errors", "wrong", "verdict")
    progress.table("load test", columns, lines)
    for m in measurements:
        for reason in m["invalid_reasons"]:
            progress.say(f"INVALID {m['id']}: {reason}")
    for note in sorted({str(m["null_server"]["note"]) for m in measurements if (m.get("null_server") or {}).get("note")}):
        progress.say(note)
    for m in measurements:
        if m.get("search") and m["search"]["max_qps"] is not None:
            slo = f"p{m['search']['percentile']:g} <= {m['search']['slo_ms']:g} ms"
            progress.say(f"{m['id']}: max_qps {m['search']['max_qps']:.1f} req/s at {slo}, confirmed with a fresh seed")


def _client(measurement: Measurement) -> dict[str, float | None]:
    """The generator's own figures over the accepted windows; percentages are of the worst window's busiest engine."""
    accepted, figures = measurement.accepted, measurement.figures
    assert figures is not None
    num = measurement.total("num_requests")
    cpu_ns = sum(attempt.result.cpu_ns for attempt in accepted)
    lags = [a.result.loop_lag_p99_ns / 1e6 for a in accepted if a.result.loop_lag_p99_ns is not None]
    return {
        "cpu_us_per_request": cpu_ns / num / 1000 if num else None,
        "spin_us_per_request": sum(attempt.result.spun_ns for attempt in accepted) / num / 1000 if num else None,
        "judging_us_per_request": measurement.judging_us,
        "cpu_percent": max((a.facts.cpu_percent for a in accepted), default=None),
        "send_error_p99_ms": figures.send_error_p99_ms,
        "loop_lag_p99_ms": max(lags, default=None),
        "run_queue_percent": max((a.facts.run_queue_percent for a in accepted), default=None),
        "steal_percent": max((a.facts.steal_percent for a in accepted), default=None),
    }


def _window(attempt: Attempt) -> dict[str, Any]:
    facts = attempt.facts
    return {
        "window": attempt.window,
        "repeat": attempt.repeat,
        "num_requests": attempt.num_requests,
        "num_errors": attempt.num_errors,
        "num_wrong": attempt.num_wrong,
        "p50_ms": attempt.p50_ms,
        "p99_ms": attempt.p99_ms,
        "throughput_rps": attempt.throughput_rps,
        "flags": attempt.flags,
        "guard": {
            "late_p99_ms": facts.late_p99_ms,
            "late_limit_ms": facts.late_limit_ms,
            "cpu_percent": facts.cpu_percent,
            "run_queue_percent": facts.run_queue_percent,
            "steal_percent": facts.steal_percent,
            "others_percent": attempt.use.others_percent,
        },
    }


def _copy_records(plan: Plan, directory: Path) -> None:
    """Copy what the report tells about earlier stages; a record that does not exist is left out."""
    directory.mkdir(parents=True, exist_ok=True)
    store, model = plan.store, plan.options.model
    version = plan.targets[0].endpoint.version
    trained = store.model_dir(model)
    sources = {
        "training.json": trained / "manifest.json",
        "train_torch.json": trained / "torch" / "record.json",
        "train_tf.json": trained / "tf" / "record.json",
        "export.json": store.export_dir(model, version) / "manifest.json",
        "verify.json": store.verify_dir(model, version) / "manifest.json",
        "endpoints.json": store.endpoints,
        "parity.json": store.deploy_dir / "parity.json",
        calibration.NAME: store.artifacts / calibration.NAME,
    }
    for name, source in sources.items():
        if source.is_file():
            shutil.copyfile(source, directory / name)
