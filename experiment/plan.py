"""What `make compare` will do, decided before anything starts: the profile, the visits and their order, the seconds they take.

A *visit* is one server, alone on the machine: deployed with given settings, proven right on the wire, loaded, stopped. It is the
unit of repetition. Visits are interleaved: each block holds one of every kind (server x tuning, and a server against itself),
in an order drawn from the seed, so that a machine that drifts drifts under all of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from faceoff import presets
from faceoff.errors import UsageError, unknown
from faceoff.presets import LoadProfile

PATH = presets.PRESETS / "compare.yaml"
TUNINGS = ("default", "best")
DEPLOY_S = 9.0  # measured on two cores: stop the one before, start, ready, parity
RUN_S = 5.0  # of the load suite: processes, connections, waits for rest
SEARCH_PROBES = 12  # what an unbounded search takes
SEARCH_SLOS, CONFIRM_SLOS = 40, 100  # the shortest windows of max_qps (loadtest/search_rules.py)
REFUTED = 0.5  # of its searches, about; each is one more search in windows as long as a confirmation, and a confirmation
AGAIN_PROBES = 4  # of such a search, which begins just below the refuted rate

Role = Literal["ab", "aa", "wide"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How much is measured; presets/compare.yaml says what each field means."""

    name: str
    load: str
    repeats: int
    trials: int
    aa: int
    probes: int | None
    rest_s: float
    budget_s: float | None
    rate_fraction: float

    def __post_init__(self) -> None:
        if self.repeats < 2 or self.trials < 1 or self.aa < 0 or not 0 < self.rate_fraction < 1:
            raise UsageError(f"{PATH.name} {self.name}: expected repeats >= 2, trials >= 1, aa >= 0, 0 < rate_fraction < 1")


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One visit. `repeat` counts from 1 (a wide visit is none: 0); `order` is its place among all visits, from 1."""

    id: str
    server: str
    tuning: str
    repeat: int
    role: Role
    order: int


def profile(name: str) -> Profile:
    """A profile of presets/compare.yaml. Raises UsageError for an unknown one."""
    data = _read()
    if name not in data["profiles"]:
        raise unknown("profile", name, list(data["profiles"]), "PROFILE")
    return Profile(name=name, rate_fraction=data["rate_fraction"], **data["profiles"][name])


def space(server: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The axes of a server's search: axis -> name of an alternative -> the settings it changes."""
    axes: dict[str, Any] = _read()["space"].get(server, {})
    return {
        axis: {str(value): {axis: value} for value in choices} if isinstance(choices, list) else dict(choices)
        for axis, choices in axes.items()
    }


def visits(servers: Sequence[str], profile: Profile, seed: int) -> list[Visit]:
    """Every visit in order: `repeats` blocks, each shuffled. The last `aa` servers are also visited to be their own rivals."""
    kinds: list[tuple[str, str, Role]] = [(server, tuning, "ab") for tuning in TUNINGS for server in servers]
    kinds += [(server, "default", "aa") for server in servers[len(servers) - min(profile.aa, len(servers)) :]]
    drawn = random.Random(seed)  # noqa: S311  an order, not a secret
    found: list[Visit] = []
    for repeat in range(1, profile.repeats + 1):
        for server, tuning, role in drawn.sample(kinds, len(kinds)):
            order = len(found) + 1
            name = f"{order:02d}-{server}-{tuning}" + ("-again" if role == "aa" else "")
            found.append(Visit(id=name, server=server, tuning=tuning, repeat=repeat, role=role, order=order))
    return found


def wide_visits(servers: Sequence[str], profile: Profile, seed: int) -> list[Visit]:
    """The wide visits (experiment/wide.py), behind all others: as installed first, the servers in an order of the seed."""
    found: list[Visit] = []
    first, drawn = len(visits(servers, profile, seed)), random.Random(seed)  # noqa: S311  an order, not a secret
    for tuning in TUNINGS:
        for server in drawn.sample(list(servers), len(servers)):
            order = first + len(found) + 1
            name = f"{order:02d}-{server}-{tuning}-wide"
            found.append(Visit(id=name, server=server, tuning=tuning, repeat=0, role="wide", order=order))
    return found


def load_seconds(load: LoadProfile, profile: Profile, capacity: float, rate: float) -> float:
    """About how long one protocol of a visit takes, for a server that answers `capacity` requests a second in a closed loop."""
    num = load.windows * load.requests_per_window
    return (load.warmup_requests + num) / capacity + num / rate + search_seconds(load, profile, capacity) + RUN_S


def search_seconds(load: LoadProfile, profile: Profile, capacity: float) -> float:
    """About how long one search of max_qps takes."""
    num = load.windows * load.requests_per_window
    probes = profile.probes or SEARCH_PROBES
    search_s = max(load.requests_per_window / capacity, SEARCH_SLOS * load.slo_ms / 1000)
    confirm_s = max(num / capacity, CONFIRM_SLOS * load.slo_ms / 1000)
    return probes * search_s + (1 + REFUTED * (min(probes, AGAIN_PROBES) + 1)) * confirm_s


def _read() -> dict[str, Any]:
    return dict(yaml.safe_load(PATH.read_text(encoding="utf-8")))
