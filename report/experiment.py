"""The records of `make compare`, if this run has them: compare.json beside summary.json.

    found = experiment.load(run, measurements)      # None for the run of a single load test

Only visits of role "ab" are shown as figures of a server; those of the A/A run have a part of their own, and the wide visits
(one of each server and tuning: a sweep, and every encoding) are curves and cells of the heat map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faceoff import visits
from report import identity, records
from report.identity import Series
from report.measurements import Measurement
from report.records import Run

COMMAND = "make compare RUN={run}"
FULL = "`PROFILE=full`"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The measurements of one server, tuning, protocol, encoding and scenario, one a visit, in the visits' order."""

    server: str
    tuning: str
    way: str
    scenario: str
    members: tuple[Measurement, ...]

    @property
    def valid(self) -> tuple[Measurement, ...]:
        """Those that count."""
        return tuple(m for m in self.members if m.valid)

    @property
    def protocol(self) -> str:
        """`rest` or `grpc`."""
        return self.members[0].protocol

    @property
    def series(self) -> Series:
        """The server's colour; as installed solid, at its best dashed."""
        return look(self.server, self.tuning)

    def of(self, metric: str) -> list[float]:
        """The figure of each VALID visit; a percentile or a mean in ms."""
        if metric in ("p50", "p90", "p95", "p99", "p99_9"):
            found = [p.value_ms for m in self.valid if (p := m.percentile(metric))]
        elif metric == "cpu_us_per_request":
            found = [float(value) for m in self.valid if (value := m.server_use.get(metric)) is not None]
        else:
            found = [value for m in self.valid if (value := getattr(m, metric)) is not None]
        return found


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """compare.json as it was written, and what follows from it."""

    run: Run
    raw: dict[str, Any]
    servers: tuple[str, ...]
    comparisons: tuple[dict[str, Any], ...]
    groups: tuple[Group, ...]
    wide: tuple[Group, ...]
    by_id: Mapping[str, Measurement]
    values: tuple[visits.Value, ...]

    @property
    def quick(self) -> bool:
        """Whether less was measured than a full run measures."""
        return bool(self.raw["profile"] != "full")

    @property
    def tunings(self) -> list[str]:
        """Those that were visited, as installed first."""
        found = {visit["tuning"] for visit in self.raw["visits"]}
        return sorted(found, key=lambda name: (name != "default", name))

    @property
    def num_repeats(self) -> int:
        """Visits of each server with each tuning, the wide one aside."""
        return max((int(visit["repeat"]) for visit in self.raw["visits"]), default=0)

    def between(self, kind: str) -> list[dict[str, Any]]:
        """The comparisons of a kind, `ab` or `aa`."""
        return [c for c in self.comparisons if c["kind"] == kind]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The visits that failed twice, each with its `reason`."""
        return list(self.raw.get("failed") or [])

    def of(self, scenario: str) -> list[Group]:
        """The groups of a scenario that have a VALID visit."""
        return [group for group in self.groups if group.scenario == scenario and group.valid]


def look(server: str, tuning: str) -> Series:
    """How a server looks with a tuning."""
    base = identity.server(server)
    return identity.variant(base, f"{server}-{tuning}", f"{base.label}, {short(tuning)}", int(tuning != "default"))


def short(tuning: str) -> str:
    """A tuning in a word or two, beside a plot."""
    return {"default": "as installed", "best": "best settings"}.get(tuning, tuning)


def load(run: Run, found: Sequence[Measurement]) -> Experiment | None:
    """The experiment of the run, None when it is not one. Raises CorruptError for a record that is not as agreed."""
    path, command = run.directory / "compare.json", COMMAND.format(run=run.name)
    raw = records.optional(path, dict, command)
    if raw is None:
        return None
    with records.reading(path, command):
        by_id = {m.id: m for m in found}
        groups, wide = (_groups(raw["visits"], by_id, role) for role in ("ab", "wide"))
        servers = tuple(sorted({visit["server"] for visit in raw["visits"]}, key=identity.rank))
        for key in ("profile", "seed", "plan", "tuning", "fairness", "floors", "breakdown"):
            raw[key]  # the names every section relies on
        with records.reading(run.directory / "summary.json", command):
            values = tuple(visits.values(run.summary, raw))
            comparisons = tuple(run.summary["comparisons"])
        return Experiment(
            run=run, raw=raw, servers=servers, comparisons=comparisons, groups=groups, wide=wide, by_id=by_id, values=values
        )


def _groups(taken: Sequence[dict[str, Any]], by_id: dict[str, Measurement], role: str) -> tuple[Group, ...]:
    """The measurements of the visits of one role, those of one kind together."""
    members: dict[tuple[str, str, str, str], list[Measurement]] = {}
    for visit in sorted(taken, key=lambda visit: visit["order"]):
        for name in visit["measurements"] if visit["role"] == role else ():
            m = by_id[name]
            members.setdefault((visit["server"], visit["tuning"], _way(m), m.scenario), []).append(m)
    groups = [
        Group(server=server, tuning=tuning, way=way, scenario=scenario, members=tuple(ms))
        for (server, tuning, way, scenario), ms in members.items()
    ]
    return tuple(sorted(groups, key=lambda g: (g.way.startswith("gRPC"), g.way, identity.rank(g.server), g.tuning != "default")))


def _way(m: Measurement) -> str:
    return m.way if m.num_rows_per_request == 1 else f"{m.way} · {m.num_rows_per_request} rows"
