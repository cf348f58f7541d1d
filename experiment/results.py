"""From visits to the two files of a run: compare.json (the experiment) and summary.json (every measurement, the comparisons).

    results/<run>/visits/<id>/…   what a visit left          results/<run>/tuning/<server>.json   its trials
    results/<run>/capacity/…      the first of each server, as installed, with the parity of every encoding
    results/<run>/records/        the earlier stages' records that the report tells of

Servers are compared on the values of their visits, VALID ones only (faceoff.visits, faceoff.verdict).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiment.plan import TUNINGS, Visit
from experiment.visit import Visited
from faceoff import environment, verdict, visits
from faceoff.store import write_atomic
from faceoff.verdict import METRICS, Comparison

CAPACITY = "capacity"  # folder of the first visits of each server as installed


@dataclass(frozen=True, kw_only=True)
class Done:
    """A visit and what came of it."""

    visit: Visit
    settings: Mapping[str, Any]
    visited: Visited

    def measurements(self) -> list[dict[str, Any]]:
        """The load suite's, as they stand in the run's summary: told apart by the visit, samples from the run's folder."""
        return [
            {
                **measurement,
                "id": f"{self.visit.id}-{measurement['id']}",
                "samples": f"visits/{self.visit.id}/{measurement['samples']}",
                "repeat": self.visit.repeat,
                "tuning": self.visit.tuning,
                "visit": self.visit.id,
                "role": self.visit.role,
            }
            for measurement in self.visited.measurements
        ]

    def to_dict(self) -> dict[str, Any]:
        """Its entry in compare.json."""
        found = self.measurements()
        rss = [m["server_use"]["rss_bytes"] for m in found if m["server_use"]["rss_bytes"] is not None]
        return {
            **asdict(self.visit),
            "settings": dict(self.settings),
            "summary": f"visits/{self.visit.id}/load/summary.json",
            "measurements": [m["id"] for m in found],
            "server_cpu_us_per_request": {m["id"]: m["server_use"]["cpu_us_per_request"] for m in found},
            "rss_bytes": max(rss, default=None),
        }


def judge(
    done: Sequence[Done], servers: Sequence[str], protocols: Sequence[str]
) -> tuple[list[Comparison], list[tuple[str, str]]]:
    """Every comparison that can be made; for each that was planned and cannot, its metric and a sentence."""
    compare = {"visits": [one.to_dict() for one in done]}
    found = visits.pairs(visits.values({"measurements": _measurements(done)}, compare), servers)
    judged = {(p.a, p.b, p.metric, p.protocol, p.tuning) for p in found}
    sides = {(a, b, tuning) for tuning in TUNINGS for a, b in itertools.combinations(servers, 2)}
    sides |= {(one.visit.server, one.visit.server, one.visit.tuning) for one in done if one.visit.role == "aa"}
    missed = [(pair.metric, sentence) for pair in found for sentence in verdict.unjudged([pair])]
    missed += [
        (metric, f"No verdict on {METRICS[metric].words} of {a} and {b} over {protocol} ({tuning}): no VALID visit of either.")
        for a, b, tuning in sorted(sides)
        for protocol in protocols
        for metric in METRICS
        if (a, b, metric, protocol, tuning) not in judged
    ]
    return verdict.judge(found), missed


def _measurements(done: Sequence[Done]) -> list[dict[str, Any]]:
    return [measurement for one in done for measurement in one.measurements()]


def write(folder: Path, *, run: str, done: Sequence[Done], record: Mapping[str, Any], comparisons: Sequence[Comparison]) -> None:
    """Write both files; `record` is compare.json without its visits."""
    first = done[0].visited.summary
    endpoints = {one.visit.server: one for one in reversed(done) if one.visit.tuning == "default"}
    # a visit proves what it loads; every encoding was proven where the capacities were measured
    parity = [json.loads((folder / CAPACITY / server / "parity.json").read_text(encoding="utf-8")) for server in endpoints]
    records = folder / "records"
    _write(records / "endpoints.json", [asdict(one.visited.endpoint) for one in endpoints.values()])
    of_all = {key: [check for one in parity for check in one[key]] for key in ("checks", "test_sets")}
    _write(records / "parity.json", {**parity[0], **of_all})
    _write(folder / "compare.json", {**record, "visits": [one.to_dict() for one in done]})
    summary = {
        "run": run,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": record["model"],
        "profile": record["profile"],
        "environment": environment.record(),
        "config": {**first["config"], "options": record["options"]},
        "calibration": first["calibration"],
        "measurements": _measurements(done),
        "comparisons": [comparison.to_dict() for comparison in comparisons],
    }
    _write(folder / "summary.json", summary)


def _write(path: Path, data: Any) -> None:
    write_atomic(path, json.dumps(data, indent=2, allow_nan=False) + "\n")
