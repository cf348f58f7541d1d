"""Everything a load test needs, checked before anything starts: who is measured, with what, how much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceoff import cli, cores, endpoints, golden, images, manifest, presets, runs
from faceoff.cores import CoreSplit
from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError
from faceoff.presets import LoadProfile
from faceoff.signature import Signature
from faceoff.store import Store
from loadtest import anywhere, calibration, checks, scenarios, targets
from loadtest.calibration import Calibration
from loadtest.options import Options
from loadtest.scenarios import BY_NAME
from loadtest.targets import Target
from serving.protocols import DEFAULT_ENCODING, ENCODINGS, PROTOCOLS, spoken


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
    asked = _chosen("scenario", options.scenarios, scenarios.NAMES, "SCENARIO") if options.scenarios else scenarios.DEFAULT
    checks.numbers(options, asked)
    checks.effects(options, asked)
    if options.rate is not None:
        checks.rate(options.rate, profile)
    connections, open_connections = checks.connections(options, profile, asked)
    # closed's throughput is what a rate is a fraction of
    chosen = tuple(name for name in scenarios.NAMES if name in asked or (name == "closed" and _needs_closed(options, asked)))
    checks.shared(options, chosen, connections, share[1])
    connections = connections // share[1] + (share[0] < connections % share[1])
    runs.check_replaceable(store.run_dir(options.run), runs.LOAD_TEST)
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
        sweep=checks.sweep(options, profile),
        trace_ns=checks.trace(options) if "trace" in chosen else None,
        cores=cores.split(generators=options.engines),
        calibration=calibration.read(store),
        share=share,
        left_out=left_out,
    )


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
    names = cli.names(text, kind, variable, known) if text else known
    return tuple(name for name in known if name in names)


def _check_artifacts(store: Store, endpoint: Endpoint) -> None:
    directory = store.export_dir(endpoint.model, endpoint.version)
    manifest.read(directory, stage="export", command=f"make export MODEL={endpoint.model} VERSION={endpoint.version}")
    if manifest.sha256(directory / manifest.NAME) != endpoint.export_sha256:
        raise UsageError(
            f"{endpoint.server} serves other artifacts of {endpoint.model!r} version {endpoint.version} than {directory} holds: "
            "deployed artifacts are not the ones on disk; run make undeploy deploy"
        )
