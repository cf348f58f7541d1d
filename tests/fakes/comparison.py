"""A synthetic `make compare`: visits, a tuner, floors and fairness in the agreed schema. Nothing in it was ever measured.

    run = comparison.write_run(tmp_path)     # tmp_path/compare with compare.json, summary.json, visits/ and records/

Its verdicts are not written by hand: faceoff.visits and faceoff.verdict judge the synthetic visits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import verdict, visits
from tests.fakes import records

SERVERS = ("torchserve", "tfserving-embedded")
TUNINGS = ("default", "best")
WAYS = (("rest", "json"), ("grpc", "tensor"))
# closed throughput in requests/s, service time in ms, server CPU a request in µs
TRUTH = {
    ("torchserve", "default"): (420.0, 5.0, 2300.0),
    ("torchserve", "best"): (760.0, 3.4, 1400.0),
    ("tfserving-embedded", "default"): (640.0, 3.2, 1500.0),
    ("tfserving-embedded", "best"): (770.0, 3.38, 1380.0),
}
GRPC_GAIN = 1.3
OTHER_ENCODINGS = {
    "torchserve": (("rest", "b64"), ("rest", "raw"), ("rest", "npy")),
    "tfserving-embedded": (("grpc", "float_val"),),
}
ENCODING_GAIN = {"b64": 1.05, "raw": 1.2, "npy": 1.1, "float_val": 0.9}
COMMON_RATE = 200.0
SEED = 7


def write_run(
    results: Path, name: str = "compare", *, repeats: int = 4, seed: int = SEED, slower: dict[str, float] | None = None
) -> Path:
    """Write a complete run; `slower` divides a server's speed by so much. Returns its folder."""
    run, rng = results / name, np.random.default_rng(seed)
    summary: dict[str, Any] = {
        "run": name,
        "created": records.CREATED,
        "model": "cnn",
        "profile": "quick",
        "environment": records.ENVIRONMENT,
        "config": {"options": {"rate": COMMON_RATE}, "profile": {"name": "compare-quick"}},
        "measurements": [],
    }
    taken = []
    kinds = [(server, tuning, "ab") for server in SERVERS for tuning in TUNINGS] + [(SERVERS[-1], "default", "aa")]
    for repeat in range(1, repeats + 1):
        for place in rng.permutation(len(kinds)):
            server, tuning, role = kinds[place]
            order = len(taken) + 1
            identity = f"{order:02d}-{server}-{tuning}" + ("-again" if role == "aa" else "")
            found = _visit(run, identity, server, tuning, repeat, rng, (slower or {}).get(server, 1.0))
            summary["measurements"] += found
            taken.append(_taken(identity, server, tuning, repeat, role, order, found))
    for server, tuning in TRUTH:
        order = len(taken) + 1
        identity = f"{order:02d}-{server}-{tuning}-wide"
        found = _wide(run, identity, server, tuning, rng)
        summary["measurements"] += found
        taken.append(_taken(identity, server, tuning, 0, "wide", order, found))
    compare = {
        "model": "cnn",
        "seed": seed,
        "profile": "quick",
        "plan": {"repeats": repeats, "trials": 3, "short": ["3 trials a server: PROFILE=full does more"]},
        "visits": taken,
        "failed": [],
        "tuning": {server: _trials(server) for server in SERVERS},
        "fairness": _fairness(),
        "floors": _floors(),
        "cost": _cost(),
        "valid": True,
        "invalid_reasons": [],
        "breakdown": [_breakdown(server, tuning, protocol) for server, tuning in TRUTH for protocol, _ in WAYS],
    }
    pairs = visits.pairs(visits.values(summary, compare), SERVERS)
    summary["comparisons"] = [comparison.to_dict() for comparison in verdict.judge(pairs)]
    (run / "records").mkdir(parents=True, exist_ok=True)
    for file, data in (("summary.json", summary), ("compare.json", compare)):
        (run / file).write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for record, data in records.all_records().items():
        (run / "records" / f"{record}.json").write_text(json.dumps(data), encoding="utf-8")
    return run


def _visit(  # noqa: PLR0917
    run: Path, identity: str, server: str, tuning: str, repeat: int, rng: np.random.Generator, slower: float
) -> list[dict[str, Any]]:
    folder = run / "visits" / identity
    (folder / "samples").mkdir(parents=True)
    rps, service_ms, cpu_us = TRUTH[server, tuning]
    shift = slower * float(np.exp(rng.normal(0, 0.012)))
    found = []
    for protocol, encoding in WAYS:
        gain = GRPC_GAIN if protocol == "grpc" else 1.0
        capacity = rps * gain / shift * float(np.exp(rng.normal(0, 0.008)))
        highest = 0.9 * capacity
        for scenario, rate, stretch in (("closed", capacity, 1.0), ("server", COMMON_RATE, 1.0), ("max_qps", highest, 2.2)):
            seed = int(rng.integers(1 << 30))
            offered = rate if scenario == "closed" else rate / 0.4  # `measurement` offers that part of it
            m = records.measurement(
                folder, server, protocol, encoding, scenario, offered, service_ms / gain * shift * stretch, seed
            )
            m["id"] = f"{identity}/{m['id']}"
            m["samples"] = f"visits/{identity}/{m['samples']}"
            m |= {"repeat": repeat, "tuning": tuning, "visit": identity}
            m["server_use"] = {"cpu_us_per_request": cpu_us / gain * shift, "rss_bytes": 560 << 20}
            if scenario == "max_qps":
                m["load"] = {"kind": "rate", "value": rate}
                m["search"] = {"max_qps": rate, "bracket": [rate, rate * 1.04], "confirmed": True, "points": []}
            found.append(m)
    return found


def _wide(run: Path, identity: str, server: str, tuning: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    """A sweep of each protocol over common rates and to beyond the knee, and a closed loop in every encoding."""
    folder = run / "visits" / identity
    (folder / "samples").mkdir(parents=True)
    rps, service_ms, cpu_us = TRUTH[server, tuning]
    lowest = min(capacity for capacity, _, _ in TRUTH.values())
    found = []
    for protocol, encoding in WAYS:
        gain = GRPC_GAIN if protocol == "grpc" else 1.0
        capacity = rps * gain
        rates = sorted({*(part * lowest for part in (0.25, 0.5, 0.75)), *(part * capacity for part in (0.6, 0.8, 0.95, 1.1))})
        for number, rate in enumerate(rates, start=1):
            load = min(rate / capacity, 0.97)
            mean_ms = service_ms / gain * (1 + 0.5 * load / (1 - load))
            seed = int(rng.integers(1 << 30))
            m = records.measurement(folder, server, protocol, encoding, f"sweep-{number}", rate / 0.4, mean_ms, seed)
            m |= {"scenario": "sweep", "load": {"kind": "rate", "value": rate}, "throughput_rps": min(rate, capacity)}
            found.append(m)
    ways = [*WAYS, *(OTHER_ENCODINGS[server])]
    for protocol, encoding in ways:
        gain = GRPC_GAIN if protocol == "grpc" else ENCODING_GAIN.get(encoding, 1.0)
        seed = int(rng.integers(1 << 30))
        found.append(records.measurement(folder, server, protocol, encoding, "closed", rps * gain, service_ms / gain, seed))
    for m in found:
        m["id"] = f"{identity}/{m['id']}"
        m["samples"] = f"visits/{identity}/{m['samples']}"
        m |= {"repeat": 0, "tuning": tuning, "visit": identity, "role": "wide"}
        m["server_use"] = {"cpu_us_per_request": cpu_us / ENCODING_GAIN.get(m["encoding"], 1.0), "rss_bytes": 560 << 20}
    return found


def _taken(  # noqa: PLR0917
    identity: str, server: str, tuning: str, repeat: int, role: str, order: int, found: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": identity,
        "server": server,
        "tuning": tuning,
        "repeat": repeat,
        "role": role,
        "order": order,
        "settings": {"workers": 2, "batch_size": 8} if tuning == "best" else {},
        "summary": f"visits/{identity}/summary.json",
        "measurements": [m["id"] for m in found],
        "server_cpu_us_per_request": {m["id"]: m["server_use"]["cpu_us_per_request"] for m in found},
        "rss_bytes": 560 << 20,
    }


def _trials(server: str) -> list[dict[str, Any]]:
    base = TRUTH[server, "default"][0]
    changes: tuple[tuple[dict[str, str], float | None], ...] = (
        ({"workers": "as tuned", "batch_size": "as tuned"}, 1.5),
        ({"workers": "2", "batch_size": "as tuned"}, 1.8),
        ({"workers": "2", "batch_size": "64"}, None),
    )
    return [
        {
            "number": number,
            "choices": choices,
            "settings": {axis: int(choice) for axis, choice in choices.items() if choice.isdigit()},
            "value": None if factor is None else base * factor,
            "valid": factor is not None,
            "reasons": [] if factor else ["the run queue delay of the generator was 9%, limit 5%"],
        }
        for number, (choices, factor) in enumerate(changes, start=1)
    ]


def _fairness() -> list[dict[str, Any]]:
    rules: tuple[tuple[str, str, Any, Any, str, str | None], ...] = (
        ("cores", "A server with more cores answers more.", [0], [0], "equal", None),
        ("allocator", "malloc decides memory and some of the time.", None, "jemalloc", "unknown", None),
        ("batching", "Batching trades latency for throughput.", {"largest": 1}, {"largest": 8}, "declared", "each its own best"),
    )
    return [
        {
            "name": name,
            "reason": reason,
            "tuning": "best",
            "server_a": SERVERS[0],
            "server_b": SERVERS[1],
            "a": a,
            "b": b,
            "verdict": found,
            "declared_because": because,
        }
        for name, reason, a, b, found, because in rules
    ]


def _floors() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for server, mean_ms in zip(SERVERS, (0.55, 0.5), strict=True):
        for protocol, _ in WAYS:
            own = {"server": server, "protocol": protocol}
            found += [
                {"kind": "in_process", **own, "throughput_rps": 1000 / mean_ms, "mean_ms": mean_ms},
                {"kind": "identity", **own, "scenario": "closed", "valid": True, "throughput_rps": 900.0},
                {"kind": "identity", **own, "scenario": "server", "valid": True, "rate_rps": COMMON_RATE, "mean_ms": 1.1},
            ]
    for protocol, _ in WAYS:
        null = {"kind": "null", "server": None, "protocol": protocol, "rate_rps": COMMON_RATE, "valid": True}
        found.append({**null, "mean_ms": 0.2, "capacity_rps": 9000.0})
    return found


def _cost() -> list[dict[str, Any]]:
    return [
        {
            "server": server,
            "tuning": tuning,
            "protocol": "rest",
            "cores": 1,
            "throughput_rps": rps,
            "per_million": 0.04e6 / rps / 3600,
            "currency": "EUR",
        }
        for (server, tuning), (rps, _, _) in TRUTH.items()
    ]


def _breakdown(server: str, tuning: str, protocol: str) -> dict[str, Any]:
    mean = TRUTH[server, tuning][1] / (GRPC_GAIN if protocol == "grpc" else 1.0)
    left = 0.16 if server == "torchserve" else 0.05
    shares = {"encode": 0.02, "network": 0.2, "queue": 0.15, "batch_wait": None, "compute": 0.62 - left, "decode": 0.01}
    parts = {name: None if share is None else share * mean for name, share in shares.items()}
    return {
        "server": server,
        "tuning": tuning,
        "protocol": protocol,
        "parts_ms": {**parts, "unattributed": mean - sum(value or 0.0 for value in parts.values())},
        "mean_ms": mean,
    }
