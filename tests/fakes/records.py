"""Synthetic runs for tests of the report: every record of the agreed schema, nothing in it was ever measured.

run = records.write_run(tmp_path)          # tmp_path/demo with summary.json, samples/ and records/
records.edit(run / "summary.json", lambda summary: summary["measurements"][0].update(valid=False))
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from faceoff import stats

ENVIRONMENT = {
    "machine": {"cpu": "Synthetic CPU @ 0.00GHz", "logical_cores": 2, "usable_cores": 2, "memory_bytes": 8 << 30, "gpus": []},
    "system": {"kernel": "6.0-synthetic", "platform": "Linux-synthetic", "python": "3.11.0"},
    "packages": {"torch": "2.13.0", "tensorflow-cpu": "2.21.0", "torchserve": "0.12.0"},
    "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
}
CREATED = "2026-11-23T05:00:00+00:00"
# server, protocol, encoding, closed throughput, service time in ms
WAYS = (
    ("torchserve", "rest", "json", 410.0, 5.1),
    ("tfserving-embedded", "rest", "json", 640.0, 3.2),
    ("torchserve", "rest", "raw", 520.0, 4.2),
    ("torchserve", "grpc", "tensor", 455.0, 4.7),
    ("tfserving-embedded", "grpc", "tensor", 1180.0, 1.6),
)
NUM_WINDOWS, REQUESTS_PER_WINDOW = 3, 500


def write_run(results: Path, name: str = "demo") -> Path:
    """Write a complete, VALID run with both scenarios and a window that was measured twice; returns its folder."""
    run = results / name
    (run / "samples").mkdir(parents=True)
    measurements = [
        measurement(run, server, protocol, encoding, scenario, rps, service_ms, seed)
        for seed, (scenario, (server, protocol, encoding, rps, service_ms)) in enumerate(
            (s, w) for s in ("closed", "server") for w in WAYS
        )
    ]
    summary = {
        "run": name,
        "model": "cnn",
        "profile": "quick",
        "environment": ENVIRONMENT,
        "config": {
            "options": {
                "model": "cnn",
                "protocols": "rest,grpc",
                "seed": 1,
                "rate": None,
                "slo": 100.0,
                "run": name,
                "results": "r",
            },
            "profile": {"name": "quick", "rate_fraction": 0.4},
            "scenarios": ["closed", "server"],
        },
        "measurements": measurements,
        "comparisons": [],
    }
    _write(run / "summary.json", summary)
    for record, data in all_records().items():
        _write(run / "records" / f"{record}.json", data)
    return run


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Load a JSON file, let `change` alter it in place, write it back."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    _write(path, data)


def measurement(  # noqa: PLR0917
    run: Path, server: str, protocol: str, encoding: str, scenario: str, rps: float, service_ms: float, seed: int
) -> dict[str, Any]:
    """Draw raw rows, write them, and describe them as the load test would."""
    rng = np.random.default_rng(seed)
    rate = rps if scenario == "closed" else 0.4 * rps
    num = NUM_WINDOWS * REQUESTS_PER_WINDOW
    window = np.repeat(np.arange(NUM_WINDOWS), REQUESTS_PER_WINDOW)
    scheduled_s = np.cumsum(rng.exponential(1 / rate, num)) + window * 0.4
    latency_ms = service_ms * (0.8 + 0.35 * rng.gamma(2.0, 0.5, num))
    latency_ms[rng.random(num) < 0.02] *= 4.5  # a tail
    if scenario == "closed":
        latency_ms *= 1.7
    scheduled_ns = 10**12 + (scheduled_s * 1e9).astype(np.int64)
    done_ns = scheduled_ns + (latency_ms * 1e6).astype(np.int64)
    columns = {
        "scheduled_ns": pa.array(scheduled_ns),
        "sent_ns": pa.array(scheduled_ns + 40_000),
        "done_ns": pa.array(done_ns),
        "wait_ns": pa.array(np.zeros(num, dtype=np.int64)),
        "status": pa.array(np.full(num, 200 if protocol == "rest" else 0), type=pa.int16()),
        "correct": pa.array([True] * num),
        "num_rows": pa.array(np.ones(num), type=pa.int32()),
        "bytes_out": pa.array(np.full(num, 900)),
        "bytes_in": pa.array(np.full(num, 200)),
        "window": pa.array(window, type=pa.int16()),
    }
    name = f"{scenario}-{server}-{protocol}-{encoding}"
    pq.write_table(pa.table(columns), run / "samples" / f"{name}.parquet")
    latencies = (done_ns - scheduled_ns) / 1e6
    return {
        "id": name,
        "samples": f"samples/{name}.parquet",
        "model": "cnn",
        "version": 1,
        "server": server,
        "server_settings_sha256": hashlib.sha256(server.encode()).hexdigest(),
        "artifact_format": "mar-eager" if server == "torchserve" else "savedmodel",
        "precision": "float32",
        "protocol": protocol,
        "encoding": encoding,
        "scenario": scenario,
        "load": {"kind": "connections", "value": 4} if scenario == "closed" else {"kind": "rate", "value": rate},
        "num_rows_per_request": 1,
        "duration_s": float(scheduled_s[-1]),
        "seed": seed,
        "slo_ms": 100.0,
        "goodput_rps": 0.99 * rate,
        "encode_us": 31.0,
        "decode_us": 12.0,
        "null_server": {"capacity_rps": 9100.0, "note": None},
        "repeat": 1,
        "valid": True,
        "invalid_reasons": [],
        "num_requests": num,
        "num_errors": 0,
        "num_wrong": 0,
        "throughput_rps": rate,
        "latency_ms": stats.summary(latencies),
        "ci95_ms": stats.intervals(latencies),
        "server_ms": {"queue": None, "compute": None},
        "client": {
            "cpu_us_per_request": 61.0,
            "cpu_percent": 12.5,
            "send_error_p99_ms": 0.21,
            "loop_lag_p99_ms": 0.05 if scenario == "closed" else None,
            "run_queue_percent": 0.4,
            "steal_percent": 0.0,
        },
        "windows": _windows(latencies, window, rate, repeated=seed == 1),
        "cores": {"servers": [0], "client": [1]},
    }


def all_records() -> dict[str, Any]:
    """Every file of records/, by its stem."""
    training = _manifest("train", _training_config(), _training_metrics())
    return {
        "training": training,
        "train_torch": _trained("torch", "2.13.0", "eager", 41.0, 0),
        "train_tf": _trained("tf", "2.21.0", "tf.function", 34.0, 1),
        "export": _manifest("export", {"version": 1, "weights": "torch"}, {"artifacts": [_exported(*a) for a in _ARTIFACTS]}),
        "verify": _manifest("verify", {"version": 1}, {"artifacts": [_verified(i, *a) for i, a in enumerate(_ARTIFACTS)]}),
        "endpoints": [
            _endpoint("torchserve", "TorchServe 0.12.0"),
            _endpoint("tfserving-embedded", "tfserving-embedded (TensorFlow 2.21.0)"),
        ],
        "parity": {
            "num_rows": 64,
            "checks": [
                {
                    "server": server,
                    "protocol": protocol,
                    "encoding": encoding,
                    "batch_size": batch_size,
                    "max_abs_difference": 0.0 if encoding == "tensor" and batch_size == 1 else 4e-7 * (index + 1),
                    "tolerance": 1e-4,
                    "ok": True,
                }
                for index, (server, protocol, encoding, _, _) in enumerate(WAYS)
                for batch_size in (1, 17)
            ],
            "test_sets": [
                {
                    "server": server,
                    "model": "cnn",
                    "version": 1,
                    "precision": "float32",
                    "protocol": protocol,
                    "num_rows": 360,
                    "accuracy": 0.975,
                    "trained_accuracy": 0.975,
                    "max_abs_difference": 4e-7,
                    "tolerance": 1e-4,
                }
                for server in ("torchserve", "tfserving-embedded")
                for protocol in ("rest", "grpc")
            ],
        },
    }


_ARTIFACTS = (
    ("cnn.mar", "torch", "mar-eager"),
    ("cnn_torch.onnx", "torch", "onnx"),
    ("savedmodel", "tf", "savedmodel"),
    ("cnn_tf.onnx", "tf", "onnx"),
)


def _training_config() -> dict[str, Any]:
    return {
        "preset": {
            "name": "cnn",
            "training": {
                "optimizer": "sgd",
                "learning_rate": 0.02,
                "momentum": 0.9,
                "batch_size": 64,
                "steps": {"quick": 300},
                "seed": 20,
            },
        },
        "dataset": {
            "name": "digits",
            "num_train": 1437,
            "num_test": 360,
            "input_shape": [8, 8, 1],
            "class_names": [str(digit) for digit in range(10)],
            "source": "scikit-learn's handwritten digits",
        },
        "signature": {"name": "serving_default", "inputs": [], "outputs": []},
        "weights": "torch",
        "train": "lockstep",
        "optimizer": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9, "equal": True},
        "precision": "float32",
        "profile": "quick",
        "seed": 20,
        "threads": 2,
        "device": "cpu",
    }


def _training_metrics() -> dict[str, Any]:
    return {
        "agreement": {key: {"max_abs_logit_difference": 2.9e-6, "tolerance": 1e-5} for key in ("torch", "tf")},
        "num_steps": 300,
        "max_abs_loss_difference": 0.0021,
        "first_step_apart": 142,
        "lockstep": {
            "bound": 0.02,
            "early_bound": 1e-4,
            "bound_steps": 200,
            "max_abs_loss_difference": 0.0021,
            "max_abs_loss_difference_in_bound_steps": 0.0011,
            "first_step_apart": 142,
            "first_step_beyond_bound": None,
            "ends": {"weights": {"name": "dense/kernel", "max_difference": 1.0e-3, "bound": 2e-3}},
            "float64": {
                "bound": 1e-8,
                "bound_steps": 300,
                "max_abs_loss_difference": 2.2e-15,
                "first_step_beyond_bound": None,
                "ends": {"weights": {"name": "norm/moving_mean", "max_difference": 3.0e-8, "bound": 1e-6}},
            },
        },
        "test_accuracy": {"torch": 0.9861, "tf": 0.9833},
        "served_accuracy": {"torch": 0.9861, "tf": 0.9861},
        "initial_weights_sha256": hashlib.sha256(b"weights").hexdigest(),
        "batches_sha256": hashlib.sha256(b"batches").hexdigest(),
    }


def _trained(framework: str, version: str, mode: str, step_ms: float, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(99)
    steps = np.arange(300)
    losses = 2.3 * np.exp(-steps / 45) + 0.04 + rng.exponential(0.02, 300) * np.exp(-steps / 200)
    losses += seed * 1e-7 * np.exp(steps / 30) * np.random.default_rng(5).normal(size=300)
    times = step_ms * np.random.default_rng(seed).lognormal(0, 0.12, 300)
    times[0] = step_ms * (9 if framework == "torch" else 60)
    return {
        "framework": framework,
        "version": version,
        "losses": np.abs(losses).tolist(),
        "step_ms": times.tolist(),
        "first_step_ms": times[0],
        "training_s": times[1:].sum() / 1e3,
        "import_s": 2.4 + 3 * seed,
        "test_accuracy": 0.9861 - 0.0028 * seed,
        "peak_rss_bytes": (430 + 390 * seed) << 20,
        "peak_gpu_bytes": None,
        "num_parameters": 101_844,
        "threads": 2,
        "device": "cpu",
        "mode": mode,
    }


def _exported(name: str, source: str, kind: str) -> dict[str, Any]:
    return {"name": name, "source": source, "format": kind, "file": name, "size_bytes": 412_000, "export_s": 1.7}


def _verified(index: int, name: str, source: str, kind: str) -> dict[str, Any]:
    found = (0.0, 9e-7, 2.4e-6, 2.9e-6)[index]
    return {
        "name": name,
        "source": source,
        "format": kind,
        "status": "verified",
        "reason": None,
        "max_abs_difference": found,
        "tolerance": 1e-5,
        "runtime": {"mar-eager": "torch 2.13.0", "onnx": "onnxruntime 1.32.0", "savedmodel": "tensorflow 2.21.0"}[kind],
        "checks": [
            {"batch_size": size, "max_abs_difference": found * share}
            for size, share in ((1, 0.4), (2, 0.6), (17, 0.9), (64, 1.0))
        ],
        "reproduce": f"python -m export.verify --model cnn --only {name}",
        "size_bytes": 412_000,
    }


def _endpoint(server: str, implementation: str) -> dict[str, Any]:
    return {
        "server": server,
        "model": "cnn",
        "version": 1,
        "rest_url": "http://127.0.0.1:18080",
        "grpc_target": "127.0.0.1:18081",
        "metrics_url": None,
        "device": "cpu",
        "settings": {"workers": 1, "batch_size": 1, "max_batch_delay_ms": 0},
        "artifact_format": "mar-eager" if server == "torchserve" else "savedmodel",
        "implementation": implementation,
        "export_sha256": hashlib.sha256(b"export").hexdigest(),
        "pids": [1],
    }


def _windows(latencies: Any, window: Any, rate: float, *, repeated: bool) -> list[dict[str, Any]]:
    found = []
    for index in range(NUM_WINDOWS):
        mine = latencies[window == index]
        p50, p99 = stats.percentile(mine, 0.5), stats.percentile(mine, 0.99)
        item = {"window": index, "repeat": 0, "p50_ms": p50, "p99_ms": p99, "throughput_rps": rate * (0.97 + 0.03 * index)}
        if repeated and index == 1:
            found.append({**item, "p99_ms": p99 * 5, "flags": ["the hypervisor took 4.1% of the cores' time, limit 2%"]})
            item["repeat"] = 1
        found.append({**item, "flags": []})
    return found


def _manifest(stage: str, config: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "stage": stage,
        "model": "cnn",
        "created": CREATED,
        "inputs": {},
        "files": {},
        "config": config,
        "environment": ENVIRONMENT,
        "metrics": metrics,
    }


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
