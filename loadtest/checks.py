"""The numbers of a load test, checked against each other, the profile and this machine, before anything starts.

Every function raises UsageError for what cannot be measured as asked; an option that would have no effect is such a mistake too.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceoff import cli
from faceoff.errors import UsageError
from faceoff.presets import LoadProfile
from loadtest.options import Options
from loadtest.scenarios import BY_NAME, NAMES

MAX_WINDOW_S = 600.0
MAX_SEARCH_SLO_MS = 6000.0  # of max_qps: a hundred of them (loadtest/search_rules.py) fit into MAX_WINDOW_S
MAX_REQUESTS = 1_000_000  # of one piece of schedule, which lies in memory
MAX_DURATION_S = 86_400.0
MAX_ROWS = 1024
MAX_ENGINES = 16
LEAST_EACH = 20  # requests of a piece of schedule for each engine that shares it: chance leaves none of them without any
SWEEP_CONNECTIONS = (1, 2, 4, 8, 16, 32, 64)
_SPARE_FILES = 64  # descriptors that are not connections
_ONE_CONNECTION = ("single_stream", "multi_stream")
# option -> the scenarios that it says something to
_EFFECTS: dict[str, frozenset[str]] = {
    "rate": frozenset(name for name in NAMES if BY_NAME[name].rate),
    "duration": frozenset(NAMES) - {"offline", "trace"},
    "connections": frozenset(NAMES) - {*_ONE_CONNECTION},
    "rates": frozenset({"sweep"}),
    "sweep_connections": frozenset({"sweep"}),
    "probes": frozenset({"max_qps"}),
    "percentile": frozenset({"max_qps"}),
    "time_scale": frozenset({"trace"}),
}


def effects(options: Options, asked: Sequence[str]) -> None:
    """Every option that is given says something to one of the scenarios asked for."""
    usual = Options()
    for name, scenarios in _EFFECTS.items():
        if getattr(options, name) != getattr(usual, name) and not scenarios & set(asked):
            flag = name.replace("_", "-")
            known = ", ".join(sorted(scenarios))
            raise UsageError(f"--{flag} has no effect on scenario {', '.join(asked)}: expected one of {known}, or no --{flag}")


def numbers(options: Options, chosen: Sequence[str]) -> None:
    """Single values within their limits."""
    checks = (
        ("duration", options.duration, 0.0, MAX_DURATION_S, "seconds"),
        ("slo", options.slo, 0.0, 1e6, "ms"),
        ("percentile", options.percentile, 0.0, 100.0, "percent"),
        ("time-scale", options.time_scale, 0.0, 1e6, "a factor"),
    )
    for name, value, low, high, unit in checks:
        if value is not None and not low < value <= high:
            raise UsageError(f"{name} {value:g}: expected more than {low:g} and at most {high:g} ({unit})")
    if options.percentile == 100.0 or not 0 <= options.tolerance < math.inf:
        raise UsageError(f"percentile {options.percentile:g}, tolerance {options.tolerance:g}: expected < 100 and >= 0")
    if options.rows is not None and not 1 <= options.rows <= MAX_ROWS:
        raise UsageError(f"rows {options.rows}: expected 1 to {MAX_ROWS} rows in a request")
    if options.probes is not None and options.probes < 2:
        raise UsageError(f"probes {options.probes}: expected at least 2 rates, one that meets the SLO and one that does not")
    if not 0 <= options.rest < math.inf:
        raise UsageError(f"rest {options.rest:g}: expected at least 0 (seconds)")
    if not 1 <= options.engines <= MAX_ENGINES:
        raise UsageError(f"engines {options.engines}: expected 1 to {MAX_ENGINES} engine processes")
    if options.keep_alive not in (0, 1):
        raise UsageError(f"keep-alive {options.keep_alive}: expected 1 (connections are kept) or 0 (one for each request)")
    if options.seed < 0:
        raise UsageError(f"seed {options.seed}: expected at least 0")
    if "max_qps" in chosen and (options.slo or 0.0) > MAX_SEARCH_SLO_MS:
        raise UsageError(
            f"slo {options.slo:g}: expected at most {MAX_SEARCH_SLO_MS:g} ms for max_qps, whose windows last a hundred of them"
        )
    if "soak" in chosen and options.duration is None:
        raise UsageError("scenario soak without --duration: expected the seconds it lasts (set DURATION=...)")
    if ("trace" in chosen) != bool(options.trace):
        raise UsageError("scenario trace and --trace FILE go together: expected both (set TRACE=...)")


def rate(value: float, profile: LoadProfile) -> None:
    """A rate at which a window ends in time."""
    least = profile.requests_per_window / MAX_WINDOW_S
    if not least <= value < math.inf:
        raise UsageError(
            f"rate {value:g}: expected at least {least:.3g} requests a second, so that a window of "
            f"{profile.requests_per_window} requests ends within {MAX_WINDOW_S:.0f} s"
        )


def connections(options: Options, profile: LoadProfile, asked: Sequence[str]) -> tuple[int, int]:
    """Of closed loops and offline, and those kept ready in the open loops.

    `asked`: the scenarios of the user's, without the closed loop that only finds out what a rate is a fraction of.
    """
    given, shut = options.connections, {"closed", "offline"} & set(asked)
    closed = profile.closed_connections if given is None or not shut else given
    opened = profile.open_connections if given is None or "closed" in asked else given
    _files("connections" if shut or given is None else "closed connections", closed, _most(profile), options.engines)
    _files("connections" if given == opened else "open connections", opened, _descriptors(), options.engines)
    return closed, opened


def sweep(options: Options, profile: LoadProfile) -> tuple[float, ...]:
    """The grid of `sweep` that was asked for: rates, or connections; () for none."""
    if options.rates and options.sweep_connections:
        raise UsageError("--rates and --sweep-connections: expected one of them")
    text = options.rates or options.sweep_connections
    try:
        values = tuple(float(value) for value in cli.comma_list(text))
    except ValueError as error:
        raise UsageError(f"{text!r}: expected a comma list of numbers ({error})") from error
    if any(not 0 < value < math.inf for value in values):
        raise UsageError(f"{text!r}: expected numbers above 0")
    if len(set(values)) < len(values):
        raise UsageError(f"{text!r}: expected each number once, a point of the sweep is known by it")
    for value in values if options.rates else ():
        rate(value, profile)
    for value in values if options.sweep_connections else ():
        if value != int(value):
            raise UsageError(f"{text!r}: expected whole numbers of connections")
        _files("sweep-connections", int(value), _most(profile), options.engines)
    return values


def sweep_connections(profile: LoadProfile, engines: int) -> tuple[int, ...]:
    """The grid of connections that nobody asked for."""
    return tuple(value for value in SWEEP_CONNECTIONS if engines <= value <= _most(profile))


def shared(options: Options, chosen: Sequence[str], num_connections: int, num_workers: int) -> None:
    """What several engines and workers cannot measure together."""
    if num_workers * options.engines > 1:
        for name in _ONE_CONNECTION:
            if name in chosen:
                many = f"{options.engines} engines and {num_workers} workers"
                raise UsageError(f"scenario {name} with {many}: one request is in flight, expected one engine")
    if options.rate is not None and options.duration is not None:
        why = too_few(math.floor(options.rate * options.duration), options.engines * num_workers)
        if why is not None:
            raise UsageError(f"rate {options.rate:g} for {options.duration:g} s: {why}")
    if num_workers == 1:
        return
    for name in chosen:
        if BY_NAME[name].searches or name == "step":
            raise UsageError(
                f"scenario {name} with {num_workers} workers: one measurement decides the next, expected one generator"
            )
    if options.rate is None and any(BY_NAME[name].rate for name in chosen):
        raise UsageError(f"{num_workers} workers without --rate: expected the requests a second of all together")
    if num_connections < num_workers * options.engines:
        raise UsageError(f"connections {num_connections}: expected at least one for each engine of the {num_workers} workers")


def too_few(num_requests: int, num_engines: int) -> str | None:
    """Why a piece of schedule cannot be shared among so many engines (of all workers); None where it can."""
    least = LEAST_EACH * num_engines if num_engines > 1 else 1
    return None if num_requests >= least else f"{num_requests} requests for {num_engines} engines, expected at least {least}"


def trace(options: Options) -> npt.NDArray[np.int64]:
    """Moments in ns after the first one, scaled."""
    try:
        lines = Path(options.trace).read_text(encoding="utf-8").split()
        moments = np.array([float(line) for line in lines], dtype=np.float64)
    except (OSError, ValueError) as error:
        raise UsageError(f"--trace {options.trace}: {error}; expected one moment in seconds on each line") from error
    if not 2 <= len(moments) <= MAX_REQUESTS or not np.isfinite(moments).all() or (np.diff(moments) < 0).any():
        raise UsageError(f"--trace {options.trace}: expected 2 to {MAX_REQUESTS} moments, each no earlier than the one before")
    if (why := too_few(len(moments), options.engines)) is not None:
        raise UsageError(f"--trace {options.trace}: {why}")
    offsets_s = (moments - moments[0]) * options.time_scale
    if offsets_s[-1] > MAX_DURATION_S:
        raise UsageError(f"--trace {options.trace}: it lasts {offsets_s[-1]:.0f} s, at most {MAX_DURATION_S:.0f} s")
    return np.asarray(np.round(offsets_s * 1e9), dtype=np.int64)


def _descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES


def _most(profile: LoadProfile) -> int:
    """Connections of a closed loop: a window has a request for each."""
    return min(_descriptors(), profile.requests_per_window)


def _files(what: str, value: int, most: int, engines: int) -> None:
    if not 1 <= value <= most:
        raise UsageError(
            f"{what} {value}: expected 1 to {most} (ulimit -n leaves {_descriptors()}; in a closed loop a window has a request "
            "for each)"
        )
    if value < engines:
        raise UsageError(f"{what} {value}: expected at least one for each of the {engines} engines")
