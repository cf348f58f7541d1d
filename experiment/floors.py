"""What nothing can be faster than, measured in the same run, and where the time of a request goes.

- in_process: the artifact called directly, on the servers' cores (serving/inprocess.py): the limit of its server's throughput.
- identity: a model that computes nothing, through each server as installed: the server's own floor.
- null: a server that answers at once, at the same rate with the same bodies: the floor of client, loopback and protocol.

The parts of a mean latency are each measured, none is what is left of the others: `encode` and `decode` (before and after the
clock, added to the mean), `network` (the null server's mean), `queue` and `compute` (the server's own metrics,
serving/metrics.py). `batch_wait` is None: no server here measures it apart. What the parts do not explain is
`unattributed`, flagged beyond 10%.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from experiment.results import Done
from experiment.visit import Bench, Load, measured
from faceoff import cores, endpoints, processes, progress, servables
from faceoff.errors import FaceoffError
from serving.protocols import DEFAULT_ENCODING, codec
from serving.servers import server_class

MODEL = "identity"
SHAPE = "1x1"  # of a call in process: one request of one row, as the load sends
UNATTRIBUTED_LIMIT = 0.1  # of the mean
PARTS = ("encode", "network", "queue", "batch_wait", "compute", "decode")
# How a server's artifact is called in process, and which of the calls has the encoding of a protocol.
IN_PROCESS = {
    "torchserve": ("handler", {"rest": "json", "grpc": "raw"}),
    "tfserving": ("savedmodel", {"rest": "tensorflow", "grpc": "tensorflow"}),
    "tfserving-embedded": ("savedmodel", {"rest": "tensorflow", "grpc": "tensorflow"}),
}
NULL = {"kind": "null", "service_ms": 0.0, "stall_ms": 0.0, "period_ms": 0.0}
EXPECTED_S = {"null": 25.0, "in_process": 20.0, "identity": 30.0}  # of one, on two cores


@dataclass(kw_only=True)
class Floors:
    """`entries` as in compare.json; `null_ms` is the mean over the null server by protocol; `short` says what was left out."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    null_ms: dict[str, float] = field(default_factory=dict)
    short: list[str] = field(default_factory=list)

    def breakdown(self, done: Sequence[Done]) -> list[dict[str, Any]]:
        """The parts of the mean latency in the open loop, for each server, tuning and protocol; means over its VALID visits."""
        cells: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        for one in done:
            for m in one.visited.measurements:
                if one.visit.role == "ab" and m["scenario"] == "server" and m["valid"]:
                    cells.setdefault((one.visit.server, one.visit.tuning, m["protocol"]), []).append(m)
        return [
            {"server": server, "tuning": tuning, "protocol": protocol, **parts(found, self.null_ms.get(protocol))}
            for (server, tuning, protocol), found in sorted(cells.items())
        ]


def parts(measurements: Sequence[Mapping[str, Any]], null_ms: float | None) -> dict[str, Any]:
    """`mean_ms` (the client's work included), `parts_ms` with `unattributed`, whether that is too large. None: not measured."""
    client = {name: _mean([m[f"{name}_us"] for m in measurements]) for name in ("encode", "decode")}
    known = {
        **{name: None if us is None else us / 1000 for name, us in client.items()},
        "network": null_ms,
        "queue": _mean([m["server_ms"]["queue"] for m in measurements]),
        "compute": _mean([m["server_ms"]["compute"] for m in measurements]),
    }
    mean_ms = (_mean([m["latency_ms"]["mean"] for m in measurements]) or 0.0) + sum(known[name] or 0.0 for name in client)
    left = mean_ms - sum(value for value in known.values() if value is not None)
    found = {name: known.get(name) for name in PARTS}
    return {
        "mean_ms": mean_ms,
        "parts_ms": {**found, "unattributed": left},
        "flagged": abs(left) > UNATTRIBUTED_LIMIT * mean_ms,
    }


def measure(bench: Bench, servers: Sequence[str], load: Load, until: float | None) -> Floors:
    """Every floor; one that would not be done by `until` (time.monotonic) is left out and said."""
    found = Floors()

    def in_time(kind: str, what: str) -> bool:
        if until is None or time.monotonic() + EXPECTED_S[kind] <= until:
            progress.say(f"\n== floor: {what}")
            return True
        found.short.append(f"floor left out for want of time: {what}; PROFILE=full measures it")
        return False

    def one(kind: str, what: str, measure: Callable[[], Sequence[dict[str, Any]]]) -> None:
        if not in_time(kind, what):
            return
        try:
            found.entries += measure()
        except FaceoffError as error:  # the visits, which took far longer, are worth their verdict without it
            found.short.append(f"floor missing: {what}; it failed: {error}")

    one("null", "the null server", lambda: _null(found, bench, servers[0], load))
    for server in servers:
        if server in IN_PROCESS:
            one("in_process", f"the artifact of {server} in process", partial(_in_process, bench, server))
    for server in servers:
        one("identity", f"the identity model through {server}", partial(_identity, bench, server, load))
    return found


def _in_process(bench: Bench, server: str) -> list[dict[str, Any]]:
    how, names = IN_PROCESS[server]
    kind = server_class(server).artifact_format  # as installed
    path = servables.read_verified(bench.store, bench.model, 1, kind).path
    bench.stop()
    options = ("--kind", how, "--artifact", str(path), "--model", bench.model, "--shapes", SHAPE)
    result = processes.run_stage("serving.inprocess", *options, "--artifacts", str(bench.store.artifacts))
    return [
        {
            "kind": "in_process",
            "server": server,
            "protocol": protocol,
            "artifact_format": kind,
            "throughput_rps": (rps := result["rows_per_s"][f"{names[protocol]} {SHAPE}"]),
            "mean_ms": 1000 / rps,
        }
        for protocol in bench.protocols
    ]


def _identity(bench: Bench, server: str, load: Load) -> list[dict[str, Any]]:
    visited = bench.insist(f"floors/identity-{server}", server, tuning="default", overrides={}, load=load, model=MODEL)
    found = []
    for m in visited.measurements:
        entry = {"kind": "identity", "server": server, "protocol": m["protocol"], "scenario": m["scenario"], "valid": m["valid"]}
        if m["scenario"] == "closed":
            found.append({**entry, "throughput_rps": m["throughput_rps"]})
        else:
            found.append({**entry, "rate_rps": m["load"]["value"], "mean_ms": m["latency_ms"]["mean"]})
    return found


def _null(found: Floors, bench: Bench, server: str, load: Load) -> list[dict[str, Any]]:
    """The null server under the open loop of the visits, with a body that `server` would get; its means go to `found`."""
    bench.stop()
    entries = []
    trained = servables.read_trained(bench.store, bench.model)
    nowhere = endpoints.nowhere(server, bench.model, 1)
    with _null_server() as ports:
        for protocol in bench.protocols:
            folder = bench.folder / "floors" / f"null-{protocol}"
            folder.mkdir(parents=True)
            way = codec(nowhere, trained.signature, protocol, DEFAULT_ENCODING[protocol])
            body = folder.with_suffix(".body")
            body.write_bytes(way.encode(trained.golden.rows(0, 1).inputs))
            where = {
                "rest": ("--url", f"http://127.0.0.1:{ports['http']}/null", "--content-type", "application/json"),
                "grpc": ("--grpc", f"127.0.0.1:{ports['grpc']}", "--method", "/null.Server/Answer"),
            }[protocol]
            out = ("--out", str(folder), "--artifacts", str(bench.store.artifacts))
            options = replace(load, scenarios="server").options()
            (m,) = measured(folder, *where, "--body", str(body), *options, *out)["measurements"]
            entry = {"kind": "null", "server": None, "protocol": protocol, "rate_rps": m["load"]["value"], "valid": m["valid"]}
            entries.append({**entry, "mean_ms": m["latency_ms"]["mean"], "capacity_rps": m["null_server"]["capacity_rps"]})
            if m["valid"]:
                found.null_ms[protocol] = m["latency_ms"]["mean"]
    return entries


@contextmanager
def _null_server() -> Iterator[dict[str, int]]:
    """The load suite's null server on the servers' cores; its ports."""
    command = [sys.executable, "-m", "loadtest.truth.server", json.dumps(NULL), json.dumps(list(cores.split().servers))]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=processes.environment(),
        preexec_fn=processes.die_with_parent,  # noqa: PLW1509  no thread of ours runs
    ) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise FaceoffError("the null server did not start; its messages are above")
            yield json.loads(line)
        finally:
            processes.stop_tree(process.pid)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
