"""Everything a load test needs, checked before anything starts: who is measured, with what, how much."""

from __future__ import annotations

import math
import resource
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceoff import cli, cores, endpoints, golden, images, manifest, presets
from faceoff.cores import CoreSplit
from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError, unknown
from faceoff.presets import LoadProfile
from faceoff.signature import Signature
from faceoff.store import Store
from loadtest import anywhere, calibration, scenarios, targets
from loadtest.calibration import Calibration
from loadtest.options import Options
from loadtest.scenarios import BY_NAME
from loadtest.targets import Target
from serving.protocols import DEFAULT_ENCODING, ENCODINGS, PROTOCOLS, spoken

MAX_WINDOW_S = 600.0
MAX_REQUESTS = 1_000_000  # of one piece of schedule, which lies in memory
MAX_DURATION_S = 86_400.0
MAX_ROWS = 1024
MAX_ENGINES = 16
_SPARE_FILES = 64  # descriptors that are not connections


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A load test that can be run. `rate` None: a fraction of the closed throughput of the same target.

    `duration_s` None: as many requests as the profile says.
    """

    options: Options
    store: Store
    profile: LoadProfile
    targets: tuple[Target, ...]
    scenarios: tuple[str, ...]
    rate: float | None
    connections: int
    open_connections: int
    duration_s: float | None
    slo_ms: float
    sweep: tuple[float, ...]
    trace_ns: npt.NDArray[np.int64] | None
    cores: CoreSplit
    calibration: Calibration | None
    search_s: float = 7200.0  # how long max_qps may search
    left_out: tuple[str, ...] = ()  # what was asked for and a server does not do, in words
    share: tuple[int, int] = (0, 1)  # of the load that several workers share: which, of how many
    repeat_until: float = math.inf  # time.monotonic() after which a flagged window is not repeated

    @property
    def run_dir(self) -> Path:
        """Where the results go."""
        return self.store.run_dir(self.options.run)

    @property
    def num_requests(self) -> int:
        """Of one measurement, where no duration is given."""
        return self.profile.windows * self.profile.requests_per_window

    def config(self) -> dict[str, object]:
        """What was asked for and what it came to, for the record."""
        asked = {
            name: value if isinstance(value, int | float | None) else str(value) for name, value in vars(self.options).items()
        }
        found = {"options": asked, "profile": vars(self.profile), "scenarios": list(self.scenarios)}
        return {**found, "left_out": list(self.left_out)}


def make(options: Options, share: tuple[int, int] = (0, 1)) -> Plan:
    """Check every choice against what exists. Raises UsageError (MissingStageError, CorruptError)."""
    store = options.store
    profile = presets.load_profile(options.profile)
    custom = anywhere.asked_for(options)
    chosen = _chosen("scenario", options.scenarios, scenarios.NAMES, "SCENARIO") if options.scenarios else scenarios.DEFAULT
    _check_numbers(options, chosen)
    if options.rate is not None:
        _check_rate(options.rate, profile)
    if _needs_closed(options, chosen):
        chosen = ("closed", *chosen)  # its throughput is what the rate is a fraction of
    chosen = tuple(name for name in scenarios.NAMES if name in chosen)
    connections, open_connections = _connections(options, profile, chosen)
    if share[1] > 1:
        _check_shared(options, chosen, connections, share[1])
        connections = connections // share[1] + (share[0] < connections % share[1])
    store.run_dir(options.run)  # a name that is not one is refused here
    found, left_out = ((anywhere.target(options, chosen),), ()) if custom else _deployed(options, chosen)
    return Plan(
        options=options,
        store=store,
        profile=profile,
        targets=found,
        scenarios=chosen,
        rate=options.rate,
        connections=connections,
        open_connections=open_connections,
        duration_s=options.duration,
        slo_ms=profile.slo_ms if options.slo is None else options.slo,
        sweep=_sweep(options),
        trace_ns=_trace(options) if "trace" in chosen else None,
        cores=cores.split(generators=options.engines),
        calibration=calibration.read(store),
        share=share,
        left_out=left_out,
    )


def _check_shared(options: Options, chosen: tuple[str, ...], connections: int, num_workers: int) -> None:
    """What several workers cannot measure together."""
    for name in chosen:
        if BY_NAME[name].searches or name == "step":
            raise UsageError(
                f"scenario {name} with {num_workers} workers: one measurement decides the next, expected one generator"
            )
    if options.rate is None and any(BY_NAME[name].rate for name in chosen):
        raise UsageError(f"{num_workers} workers without --rate: expected the requests a second of all together")
    if connections < num_workers * options.engines:
        raise UsageError(f"connections {connections}: expected at least one for each engine of the {num_workers} workers")


def _needs_closed(options: Options, chosen: tuple[str, ...]) -> bool:
    if "closed" in chosen or options.rate is not None:
        return False
    given = {"sweep"} if options.rates or options.sweep_connections else set()
    return any(BY_NAME[name].rate and name not in given for name in chosen)


def _deployed(options: Options, chosen: tuple[str, ...]) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """The targets, and why an encoding that was asked for is left out at a server that does not take it."""
    store = options.store
    presets.model(options.model)
    protocols = _chosen("protocol", options.protocols, PROTOCOLS, "PROTOCOLS")
    encodings = _chosen("encoding", options.encodings, ENCODINGS, "ENCODINGS") if options.encodings else None
    deployed = endpoints.read(store, model=options.model, servers=cli.comma_list(options.servers) or None)
    deployed = [endpoint for endpoint in deployed if options.version in (None, endpoint.version)]
    if not deployed:
        raise UsageError(
            f"no endpoint serves version {options.version} of {options.model!r}: run make deploy VERSION={options.version}"
        )
    deployed = list({(endpoint.server, endpoint.version): endpoint for endpoint in deployed}.values())
    if len({endpoint.server for endpoint in deployed}) < len(deployed):
        versions = sorted({endpoint.version for endpoint in deployed})
        raise UsageError(f"versions {versions} of {options.model!r} are deployed: say which one with VERSION=")
    for endpoint in deployed:
        _check_artifacts(store, endpoint)
    trained = manifest.read(store.model_dir(options.model), stage="train", command=f"make train MODEL={options.model}")
    signature = Signature.from_dict(trained.config["signature"])
    expected = golden.read(store.model_dir(options.model) / "golden", signature)
    version = deployed[0].version
    pictures = images.read(store.export_dir(options.model, version), signature) if _of_images(encodings) else {}
    found: list[Target] = []
    refused: list[tuple[bool, UsageError]] = []  # whether another server takes that encoding over that protocol
    for endpoint in deployed:
        for protocol in protocols:
            for encoding in encodings or (DEFAULT_ENCODING[protocol],):
                try:
                    found += [
                        targets.deployed(
                            endpoint,
                            signature,
                            pictures[encoding].rows(0, images.NUM_OF_MODEL_SIZE) if encoding in pictures else expected,
                            protocol=protocol,
                            encoding=encoding,
                            num_rows=num_rows,
                            scenarios=group,
                        )
                        for num_rows, group in _by_rows(options, chosen)
                    ]
                except UsageError as error:
                    if encodings is None or "takes no encoding" not in str(error):
                        raise
                    refused.append((spoken(protocol, encoding), error))
    said = [why for right_protocol, why in refused if right_protocol]
    if not found:
        raise said[0] if said else refused[0][1]
    return tuple(found), tuple(str(why) for why in said)


def _of_images(encodings: tuple[str, ...] | None) -> bool:
    return any(encoding in images.ENCODINGS for encoding in encodings or ())


def _by_rows(options: Options, chosen: tuple[str, ...]) -> list[tuple[int, tuple[str, ...]]]:
    """The scenarios that send the same number of rows in a request, one row first."""
    rows = {name: options.rows or BY_NAME[name].rows for name in chosen}
    return [(num, tuple(name for name in chosen if rows[name] == num)) for num in sorted(set(rows.values()))]


def _chosen(kind: str, text: str, known: tuple[str, ...], variable: str) -> tuple[str, ...]:
    names = cli.comma_list(text) or list(known)
    for name in names:
        if name not in known:
            raise unknown(kind, name, list(known), variable)
    return tuple(name for name in known if name in names)


def _check_numbers(options: Options, chosen: tuple[str, ...]) -> None:
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
    if "soak" in chosen and options.duration is None:
        raise UsageError("scenario soak without --duration: expected the seconds it lasts (set DURATION=...)")
    if ("trace" in chosen) != bool(options.trace):
        raise UsageError("scenario trace and --trace FILE go together: expected both (set TRACE=...)")


def _connections(options: Options, profile: LoadProfile, chosen: tuple[str, ...]) -> tuple[int, int]:
    """Of closed loops, and those kept ready in the open ones."""
    connections = profile.closed_connections if options.connections is None else options.connections
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = min(files - _SPARE_FILES, profile.requests_per_window)
    if not 1 <= connections <= most:
        raise UsageError(f"connections {connections}: expected 1 to {most} (ulimit -n is {files}; a window has enough for each)")
    if connections < options.engines:
        raise UsageError(f"connections {connections}: expected at least one for each of the {options.engines} engines")
    asked = options.connections is not None and "closed" not in chosen
    open_connections = connections if asked else profile.open_connections
    if open_connections > files - _SPARE_FILES:
        raise UsageError(f"profile {profile.name!r} opens {open_connections} connections: raise ulimit -n, now {files}")
    return connections, open_connections


def _check_rate(rate: float, profile: LoadProfile) -> None:
    least = profile.requests_per_window / MAX_WINDOW_S
    if not least <= rate < math.inf:
        raise UsageError(
            f"rate {rate:g}: expected at least {least:.3g} requests a second, so that a window of "
            f"{profile.requests_per_window} requests ends within {MAX_WINDOW_S:.0f} s"
        )


def _sweep(options: Options) -> tuple[float, ...]:
    if options.rates and options.sweep_connections:
        raise UsageError("--rates and --sweep-connections: expected one of them")
    text = options.rates or options.sweep_connections
    try:
        values = tuple(float(value) for value in cli.comma_list(text))
    except ValueError as error:
        raise UsageError(f"{text!r}: expected a comma list of numbers ({error})") from error
    if any(not 0 < value < math.inf for value in values):
        raise UsageError(f"{text!r}: expected numbers above 0")
    if options.sweep_connections and any(value != int(value) for value in values):
        raise UsageError(f"{text!r}: expected whole numbers of connections")
    if options.rates:
        for value in values:
            _check_rate(value, presets.load_profile(options.profile))
    return values


def _trace(options: Options) -> npt.NDArray[np.int64]:
    """Moments in ns after the first one, scaled. Raises UsageError."""
    try:
        lines = Path(options.trace).read_text(encoding="utf-8").split()
        moments = np.array([float(line) for line in lines], dtype=np.float64)
    except (OSError, ValueError) as error:
        raise UsageError(f"--trace {options.trace}: {error}; expected one moment in seconds on each line") from error
    if not 2 <= len(moments) <= MAX_REQUESTS or not np.isfinite(moments).all() or (np.diff(moments) < 0).any():
        raise UsageError(f"--trace {options.trace}: expected 2 to {MAX_REQUESTS} moments, each no earlier than the one before")
    offsets_s = (moments - moments[0]) * options.time_scale
    if offsets_s[-1] > MAX_DURATION_S:
        raise UsageError(f"--trace {options.trace}: it lasts {offsets_s[-1]:.0f} s, at most {MAX_DURATION_S:.0f} s")
    return np.asarray(np.round(offsets_s * 1e9), dtype=np.int64)


def _check_artifacts(store: Store, endpoint: Endpoint) -> None:
    directory = store.export_dir(endpoint.model, endpoint.version)
    manifest.read(directory, stage="export", command=f"make export MODEL={endpoint.model} VERSION={endpoint.version}")
    if manifest.sha256(directory / manifest.NAME) != endpoint.export_sha256:
        raise UsageError(
            f"{endpoint.server} serves other artifacts of {endpoint.model!r} version {endpoint.version} than {directory} holds: "
            "deployed artifacts are not the ones on disk; run make undeploy deploy"
        )
