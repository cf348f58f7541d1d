"""What a load test can be asked for, said once for `python -m loadtest.run` and for Locust's own command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faceoff.errors import UsageError
from faceoff.store import Store
from loadtest.calm import BUDGET_S

DEFAULT_SEED = 1
# Locust has a --profile and a --version of its own; every other name is the same in both places.
LOCUST_NAMES = {"profile": "load-profile", "version": "model-version"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The choices as text and numbers; `loadtest.plan` checks them. None: the profile's value, or everything."""

    model: str = "cnn"
    version: int | None = None
    servers: str = ""
    protocols: str = ""
    encodings: str = ""
    rows: int | None = None
    scenarios: str = ""
    profile: str = "quick"
    run: str = ""
    seed: int = DEFAULT_SEED
    rate: float | None = None
    connections: int | None = None
    keep_alive: int = 1
    engines: int = 1
    duration: float | None = None
    slo: float | None = None
    percentile: float = 99.0
    probes: int | None = None
    rest: float = BUDGET_S
    rates: str = ""
    sweep_connections: str = ""
    trace: str = ""
    time_scale: float = 1.0
    url: str = ""
    grpc: str = ""
    method: str = ""
    body: str = ""
    expect: str = ""
    content_type: str = ""
    tolerance: float = 0.0
    artifacts: Path = Path("artifacts")
    results: Path = Path("results")

    @property
    def store(self) -> Store:
        """Where everything lies."""
        return Store(artifacts=self.artifacts, results=self.results)

    def arguments(self) -> list[str]:
        """These choices as arguments for Locust."""
        found = []
        for name, value in vars(self).items():
            if value not in (None, ""):
                found.append(f"--{LOCUST_NAMES.get(name, name).replace('_', '-')}={value}")
        return found


def add_to(parser: Any, *, locust: bool = False) -> None:
    """Add the options to a parser (ours, or Locust's, which is a configargparse parser)."""

    def add(name: str, kind: Any, default: Any, text: str, *aliases: str) -> None:
        flag = (LOCUST_NAMES.get(name, name) if locust else name).replace("_", "-")
        dest = f"faceoff_{name}" if locust else name
        action = parser.add_argument(f"--{flag}", *aliases, dest=dest, type=kind, default=default, help=text)
        if locust:  # Locust's parser sets these itself, its groups do not; the Web UI's form goes by them
            action.include_in_web_ui = True
            action.is_secret = action.is_required = action.is_multiple = False

    add("model", str, "cnn", "a name from presets/models (default: cnn)")
    add("version", int, None, "version of the export (default: what is deployed)")
    add("servers", str, "", "comma list, e.g. torchserve,tfserving (default: every deployed one)")
    add("protocols", str, "", "comma list of rest, grpc (default: both)")
    add(
        "encodings",
        str,
        "",
        "comma list of json, b64, raw, npy, tensor, float_val, png, jpeg (default: json over rest, tensor over grpc)",
    )
    add("rows", int, None, "rows in one request (default: 1; 8 in multi_stream, 32 in offline)")
    text = (
        "comma list of closed, server, single_stream, multi_stream, offline, constant, step, ramp, burst, trace, soak, max_qps,"
        " sweep (default: closed,server; a rate that is not given is a fraction of closed's throughput)"
    )
    add("scenarios", str, "", text, "--scenario")
    add("profile", str, "quick", "how much is measured: a name from presets/load (default: quick)")
    add("run", str, "", "name of the results folder (default: loadtest-<UTC time>)")
    add("seed", int, DEFAULT_SEED, f"of schedules and of the order of inputs (default: {DEFAULT_SEED})")
    add("rate", float, None, "requests a second (default: the profile's fraction of closed's throughput)")
    add("connections", int, None, "connections: of closed and offline; kept ready in the open loop (default: the profile's)")
    add("keep_alive", int, 1, "1: connections and channels are kept; 0: one for each request, opened in its time (default: 1)")
    add(
        "engines", int, 1, "engine processes, each with a share of the load and a core of its own where there is one (default: 1)"
    )
    add("duration", float, None, "seconds of each measurement (default: the profile's number of requests)")
    add("slo", float, None, "latency in ms that goodput and max_qps go by (default: the profile's)")
    add("percentile", float, 99.0, "percentile that max_qps holds against the SLO (default: 99)")
    add("probes", int, None, "a search of max_qps ends after so many rates (default: when its bracket is 1%% wide)")
    add("rest", float, BUDGET_S, f"seconds to wait in all for the machine to come to rest (default: {BUDGET_S:.0f})")
    add("rates", str, "", "comma list of rates of sweep (default: 0.1 to 1.2 of closed's throughput)")
    add("sweep_connections", str, "", "comma list of connections: sweep walks these in a closed loop instead of rates")
    add("trace", str, "", "file of scenario trace: one moment in seconds on each line, ascending")
    add("time_scale", float, 1.0, "what the moments of the trace are multiplied by; 0.5 is twice as fast (default: 1)")
    add("url", str, "", "measure this HTTP endpoint, http://127.0.0.1:PORT/path, with POSTs of --body")
    add("grpc", str, "", "measure this gRPC endpoint, 127.0.0.1:PORT, with unary calls of --method")
    add("method", str, "", "full name of the method, /package.Service/Method")
    add("body", str, "", "file with one request body or serialized message, or a folder of them")
    add("expect", str, "", "file with the right answer, or a folder with one for each body (default: nothing is judged)")
    add("content_type", str, "", "of --body (default: application/json for .json, else application/octet-stream)")
    add("tolerance", float, 0.0, "how far a number in a JSON answer may be off --expect (default: 0)")
    if locust:
        add("artifacts", str, "artifacts", "artifact root (default: artifacts)")
        add("results", str, "results", "results root (default: results)")
    else:
        parser.add_argument("--out", type=Path, default=None, help="results folder, instead of --results and --run")


_NUMBERS = {
    **dict.fromkeys(("version", "rows", "seed", "connections", "keep_alive", "engines", "probes"), int),
    **dict.fromkeys(("rate", "duration", "slo", "percentile", "time_scale", "tolerance", "rest"), float),
    **dict.fromkeys(("artifacts", "results"), Path),
}


def _from_form(name: str, value: Any) -> Any:
    """A value as the command line would have given it: Locust's Web UI keeps texts where the default is None."""
    if not isinstance(value, str):
        return getattr(Options(), name) if value is None else value
    kind = _NUMBERS.get(name)
    if kind is None:
        return value.strip()
    if not value.strip():
        return getattr(Options(), name)
    try:
        return kind(value)
    except ValueError as error:
        raise UsageError(f"{name} {value!r}: expected a number") from error


def from_arguments(arguments: argparse.Namespace, *, locust: bool = False) -> Options:
    """The parsed options. Raises UsageError for --out beside --run."""
    prefix = "faceoff_" if locust else ""
    found = {name: getattr(arguments, f"{prefix}{name}") for name in vars(Options())}
    if locust:
        found = {name: _from_form(name, value) for name, value in found.items()}
    out = None if locust else arguments.out
    if out is not None:
        if found["run"]:
            raise UsageError("--out and --run: expected one of them")
        found |= {"results": out.parent, "run": out.name}
    found["run"] = found["run"] or datetime.now(UTC).strftime("loadtest-%Y%m%dT%H%M%SZ")
    return Options(**found)
