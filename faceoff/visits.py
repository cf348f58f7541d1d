"""The records of a comparison -> one value a visit, and the pairs that are to be judged.

Reads `summary.json` (measurements, INVALID ones have no value) and `compare.json` (which visit a measurement belongs to, in what
order it came, and whether it was a server's turn or an extra one of the A/A run). Two values are comparable when model, protocol,
encoding, rows a request, scenario and load are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from faceoff import ratios
from faceoff.verdict import METRICS, Pair

# scenario -> the figures it is there for; a closed loop's latencies hide stalls, an open loop's throughput is its rate
MEASURED_BY = {
    "closed": ("throughput_rps",),
    "server": ("p50", "p99", "cpu_us_per_request"),
    "constant": ("p50", "p99", "cpu_us_per_request"),
    "max_qps": ("max_qps",),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What must be equal for two values to be comparable."""

    metric: str
    model: str
    protocol: str
    encoding: str
    num_rows: int
    scenario: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Value:
    """One figure of one visit. `resolution`: see verdict.Pair."""

    cell: Cell
    server: str
    tuning: str
    role: str
    order: int
    value: float
    resolution: float


def values(summary: dict[str, Any], compare: dict[str, Any]) -> list[Value]:
    """Every figure of every VALID measurement of a visit, in the visits' order. Raises KeyError for a malformed record.

    A wide visit has none here: there is one of each server, and what it sends is its own.
    """
    measured = {m["id"]: m for m in summary["measurements"]}
    found = []
    for visit in sorted(compare["visits"], key=lambda visit: visit["order"]):
        for name in visit["measurements"] if visit["role"] != "wide" else ():
            m = measured[name]
            for metric in MEASURED_BY.get(m["scenario"], ()) if m["valid"] else ():
                value, resolution = _figure(metric, m)
                if value:
                    found.append(
                        Value(
                            cell=_cell(metric, m),
                            server=visit["server"],
                            tuning=visit["tuning"],
                            role=visit["role"],
                            order=visit["order"],
                            value=value,
                            resolution=resolution,
                        )
                    )
    return found


def pairs(found: Sequence[Value], servers: Sequence[str]) -> list[Pair]:
    """Every two of `servers` under the same tuning, and every server's A/A visits against its other ones."""
    groups: dict[tuple[Cell, str], list[Value]] = {}
    for value in found:
        groups.setdefault((value.cell, value.tuning), []).append(value)
    result = []
    for (cell, tuning), group in groups.items():
        turns = {server: [v for v in group if v.server == server and v.role == "ab"] for server in servers}
        extra = {server: [v for v in group if v.server == server and v.role == "aa"] for server in servers}
        result += [pair(cell, tuning, (a, b), turns[a], turns[b]) for a, b in combinations(servers, 2)]
        result += [pair(cell, tuning, (s, s), turns[s], extra[s]) for s in servers if extra[s]]
    return result


def pair(cell: Cell, tuning: str, names: tuple[str, str], a_values: Iterable[Value], b_values: Iterable[Value]) -> Pair:
    """Two groups of values of one cell."""
    (a, b), left, right = names, list(a_values), list(b_values)
    return Pair(
        kind="aa" if a == b else "ab",
        metric=cell.metric,
        model=cell.model,
        protocol=cell.protocol,
        encoding=cell.encoding if cell.num_rows == 1 else f"{cell.encoding}, {cell.num_rows} rows",
        scenario=cell.scenario,
        tuning=tuning,
        at=cell.at,
        a=a,
        b=b,
        a_values=tuple(v.value for v in left),
        b_values=tuple(v.value for v in right),
        resolution=max((v.resolution for v in [*left, *right]), default=0.0),
    )


def drifts(found: Sequence[Value]) -> list[tuple[Cell, ratios.Drift]]:
    """Where figures moved over the experiment more than chance does, whichever server's turn it was; 5% for all together."""
    cells = list(dict.fromkeys(value.cell for value in found))
    trends = []
    for cell in cells:
        groups: dict[tuple[str, str], list[Value]] = {}
        for value in found:
            if value.cell == cell:
                groups.setdefault((value.server, value.tuning), []).append(value)
        trends.append((cell, ratios.drift([([v.order for v in g], [v.value for v in g]) for g in groups.values()])))
    return [(cell, trend) for cell, trend in trends if trend and trend.p_value < 0.05 / len(cells)]


def _figure(metric: str, m: dict[str, Any]) -> tuple[float | None, float]:
    if metric == "max_qps":
        search = m["search"] or {}
        value, failed = search.get("max_qps"), (search.get("bracket") or [None, None])[1]
        return value, failed / value - 1 if value and failed else 0.0
    if metric == "cpu_us_per_request":
        return (m.get("server_use") or {}).get("cpu_us_per_request"), 0.0
    return (m["throughput_rps"] if metric == "throughput_rps" else m["latency_ms"].get(metric)), 0.0


def _cell(metric: str, m: dict[str, Any]) -> Cell:
    load = m["load"]
    if metric == "max_qps":
        at = f"SLO {m['slo_ms']:g} ms"
    else:
        at = f"{load['value']:.4g} requests/s" if load["kind"] == "rate" else f"{load['value']:.0f} connections"
    assert metric in METRICS
    return Cell(
        metric=metric,
        model=m["model"],
        protocol=m["protocol"],
        encoding=m["encoding"],
        num_rows=int(m.get("num_rows_per_request") or 1),
        scenario=m["scenario"],
        at=at,
    )
