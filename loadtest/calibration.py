"""The engine's own capacity on this machine: requests a second against a server that does nothing.

`make loadtest-calibrate` measures it and writes artifacts/calibration.json; every measurement quotes it, and the guard
holds the load against it. It depends on protocol and body size, so it is measured at several sizes; between them the time a
request takes is taken as linear in its bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from faceoff import cores, environment
from faceoff.cores import CoreSplit
from faceoff.errors import CorruptError
from faceoff.store import Store, write_atomic

NAME = "calibration.json"
COMMAND = "make loadtest-calibrate"


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """One point: `rps` is the median of a few closed loops, `cpu_us` the generator's CPU time a request (microseconds)."""

    protocol: str
    body_bytes: int
    connections: int
    rps: float
    cpu_us: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured, when, and where. `elsewhere` says what differs from this machine, None when nothing does."""

    created: str
    capacities: tuple[Capacity, ...]
    environment: dict[str, Any]
    cores: dict[str, Any]
    elsewhere: str | None = None

    def capacity_rps(self, protocol: str, body_bytes: float) -> float | None:
        """Requests a second that the engine can send with such bodies; None where nothing was measured."""
        points = sorted((c.body_bytes, 1 / c.rps) for c in self.capacities if c.protocol == protocol and c.rps > 0)
        if not points or self.elsewhere is not None:
            return None
        sizes, seconds = zip(*points, strict=True)
        found = float(np.interp(body_bytes, sizes, seconds))
        if body_bytes > sizes[-1]:
            found *= body_bytes / sizes[-1]
        return 1 / found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record."""
        return asdict(self)


def write(store: Store, calibration: Calibration) -> None:
    """Store it, all or nothing."""
    write_atomic(store.artifacts / NAME, json.dumps(calibration.to_dict(), indent=2) + "\n")


def read(store: Store) -> Calibration | None:
    """The stored one, None when there is none. Raises CorruptError for a file that is not one."""
    path = store.artifacts / NAME
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        capacities = tuple(Capacity(**capacity) for capacity in data.pop("capacities"))
        found = Calibration(**{**data, "capacities": capacities})
        elsewhere = _difference(found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptError(f"{path} is not a calibration ({error}); run again: {COMMAND}") from error
    return Calibration(**{**vars(found), "elsewhere": elsewhere})


def _difference(found: Calibration) -> str | None:
    here = here_and_now()
    there = {**{name: found.environment["machine"][name] for name in ("cpu", "usable_cores")}, "cores": _lists(found.cores)}
    differing = [f"{name} {there[name]!r}, here {here[name]!r}" for name in here if here[name] != there[name]]
    return "; ".join(differing) or None


def here_and_now() -> dict[str, Any]:
    """What a calibration depends on, as it is here."""
    machine = environment.record()["machine"]
    return {"cpu": machine["cpu"], "usable_cores": machine["usable_cores"], "cores": _lists(split_dict(cores.split()))}


def split_dict(split: CoreSplit) -> dict[str, Any]:
    """Which cores were whose."""
    return dict(split.to_dict())


def _lists(data: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}
