"""The wide visit: one extra visit of each server and tuning, for what the repeated ones have no time for.

A `sweep` of each protocol, over rates that all have in common (parts of the lowest capacity of all) and on to beyond the
server's own knee; then a closed loop in every encoding that the server takes. It gives the report its curves and its heat map.
It is one visit, so it has no part in any verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from experiment.plan import RUN_S
from experiment.results import Done
from experiment.visit import Load
from faceoff.presets import LoadProfile
from serving.protocols import ENCODINGS

COMMON = (0.25, 0.5, 0.75)  # of the lowest capacity that any server has over any protocol, as installed
KNEE = (0.6, 0.8, 0.95, 1.1)  # of the server's own over this protocol, with these settings
ENCODINGS_EACH = 3  # the most that one protocol and server have besides the usual one, for the seconds it takes
POINT_S = 1.0  # beside its requests

Capacities = Mapping[str, float]  # protocol -> requests a second of a closed loop


def capacities(done: Sequence[Done], server: str, tuning: str, protocols: Sequence[str]) -> dict[str, float]:
    """What the visits found for one server and tuning: the mean over them. A protocol that never answered is left out."""
    found: dict[str, list[float]] = {}
    for one in done:
        if (one.visit.server, one.visit.tuning) == (server, tuning):
            for protocol in protocols:
                closed = one.visited.find("closed", protocol)
                if closed is not None and closed["throughput_rps"] > 0:
                    found.setdefault(protocol, []).append(closed["throughput_rps"])
    return {protocol: sum(values) / len(values) for protocol, values in found.items()}


def rates(lowest: float, own: float) -> tuple[float, ...]:
    """The requests a second of one sweep, ascending."""
    common, knee = ([part * of for part in parts] for parts, of in ((COMMON, lowest), (KNEE, own)))
    return tuple(sorted({float(f"{rate:.6g}") for rate in (*common, *knee)}))


def loads(base: Load, lowest: float, own: Capacities) -> dict[str, Load]:
    """What the visit is loaded with, one run of the load suite each; `load` is the first."""
    sweeps = {
        f"sweep-{protocol}": replace(base, scenarios="sweep", protocols=(protocol,), rates=rates(lowest, rps))
        for protocol, rps in own.items()
    }
    return {"load": replace(base, scenarios="closed", encodings=ENCODINGS), **sweeps}


def seconds(profile: LoadProfile, lowest: float, own: Capacities) -> float:
    """About how long the loads take."""
    num = profile.windows * profile.requests_per_window
    total = RUN_S
    for rps in own.values():
        points = [num / min(rate, rps) + POINT_S for rate in rates(lowest, rps)]
        total += RUN_S + profile.warmup_requests / rps + sum(points)
        total += (1 + ENCODINGS_EACH) * ((profile.warmup_requests + num) / rps + POINT_S)
    return total
