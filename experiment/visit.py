"""One visit: one server, alone on the machine, is deployed, proven right on the wire, loaded, read while it runs, and replaced.

    bench = Bench(store=store, model="cnn", device="cpu", protocols=("rest", "grpc"), folder=folder)
    try:
        visited = bench.visit("visits/01-torchserve-default", "torchserve", tuning="default", overrides={}, load=load)
    finally:
        bench.close()

Stages run as processes. A deploy stops the server before it, so two never run side by side. Under the visit's folder lie its
settings.json, endpoint.json, parity.json, facts.json and load/, which is a run of the load suite; a wide visit has several.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiment import facts
from faceoff import endpoints, processes, progress, servables
from faceoff.endpoints import Endpoint
from faceoff.errors import InvalidError, StageError
from faceoff.store import Store, write_atomic
from serving.interrupts import ignore_interrupts
from serving.protocols import DEFAULT_ENCODING


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a visit is loaded with. `rate`: requests a second of the open loop; None where there is none.

    `rates` are those of a sweep; without `encodings` the usual ones, without `protocols` the bench's.
    """

    profile: str
    scenarios: str
    seed: int
    rate: float | None = None
    probes: int | None = None
    rest_s: float = 60.0
    rates: tuple[float, ...] = ()
    encodings: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()

    def options(self) -> list[str]:
        """For the load suite."""
        found = ["--profile", self.profile, "--scenarios", self.scenarios, "--seed", str(self.seed), "--rest", f"{self.rest_s:g}"]
        found += ["--probes", str(self.probes)] if self.probes else []
        found += ["--rates", ",".join(f"{rate:.6g}" for rate in self.rates)] if self.rates else []
        found += ["--encodings", ",".join(self.encodings)] if self.encodings else []
        return [*found, "--rate", f"{self.rate:.6g}"] if self.rate else found


@dataclass(frozen=True, kw_only=True)
class Visited:
    """What came of it. `measurements` are the load suite's, their `samples` relative to `folder`."""

    folder: Path
    endpoint: Endpoint
    facts: dict[str, Any]
    summary: dict[str, Any]

    @property
    def measurements(self) -> list[dict[str, Any]]:
        """Those of every run of the load suite."""
        found: list[dict[str, Any]] = self.summary["measurements"]
        return found

    def find(self, scenario: str, protocol: str) -> dict[str, Any] | None:
        """The measurement of a scenario over a protocol; None where there is none."""
        return next((m for m in self.measurements if m["scenario"] == scenario and m["protocol"] == protocol), None)


@dataclass(kw_only=True)
class Bench:
    """Where visits happen. `folder` receives what they leave behind."""

    store: Store
    model: str
    device: str
    protocols: tuple[str, ...]
    folder: Path

    def visit(
        self,
        name: str,
        server: str,
        *,
        tuning: str,
        overrides: Mapping[str, Any],
        load: Load,
        more: Mapping[str, Load] | None = None,
        model: str | None = None,
        proven: Sequence[str] = (),
    ) -> Visited:
        """Visit `server` with the settings called `tuning` and `overrides` over them; results go to `folder`/`name`.

        `load` leaves them in load/, each of `more` after it in a folder of its name. Parity is proven in the encodings that are
        loaded, and in those `proven` besides. An INVALID measurement is a result. Raises StageError when the server cannot be
        deployed or the load suite fails.
        """
        folder = self.folder / name
        folder.mkdir(parents=True)
        settings = folder / "settings.json"
        # The load suite warms up, by the same count on both sides.
        write_atomic(settings, json.dumps({server: {**overrides, "warmup_requests": 0}}, indent=2) + "\n")
        about = ("--model", model or self.model, "--servers", server)
        roots = ("--artifacts", str(self.store.artifacts), "--results", str(self.store.results))
        encodings = {*DEFAULT_ENCODING.values(), *proven, *(e for one in (load, *(more or {}).values()) for e in one.encodings)}
        chosen = ("--ports", "free", "--tuning", tuning, "--settings", str(settings), "--device", self.device)
        processes.run_stage("serving.deploy", *about, *chosen, "--encodings", ",".join(sorted(encodings)), *roots)
        (endpoint,) = endpoints.read(self.store)
        about_model = servables.read_trained(self.store, model or self.model)
        idle = facts.at_rest()
        summaries, found = [], []
        for place, one in {"load": load, **(more or {})}.items():
            protocols = ("--protocols", ",".join(one.protocols or self.protocols))
            where = ("--out", str(folder / place), "--artifacts", str(self.store.artifacts))
            summary = measured(folder / place, *about, *one.options(), *protocols, *where)
            summaries.append(summary)
            found += [{**m, "samples": f"{place}/{m['samples']}"} for m in summary["measurements"]]
            self._keep_records(folder / place)
        summary = summaries[0]
        visited = Visited(
            folder=folder,
            endpoint=endpoint,
            facts={
                **facts.of(endpoint, about_model, found, folder),
                "other_load": idle,
                "warm_up": summary["config"]["profile"]["warmup_requests"],
            },
            summary={**summary, "run": name, "measurements": found},
        )
        shutil.copyfile(self.store.deploy_dir / "parity.json", folder / "parity.json")
        for file, data in (
            ("endpoint.json", asdict(endpoint)),
            ("facts.json", visited.facts),
        ):
            write_atomic(folder / file, json.dumps(data, indent=2, allow_nan=False) + "\n")
        return visited

    def insist(self, name: str, server: str, **how: Any) -> Visited:
        """As `visit`, and once more where that fails; what the first try left is then in `name`-failed. Raises StageError."""
        try:
            return self.visit(name, server, **how)
        except StageError as error:
            progress.say(f"this visit failed and is tried once more: {error}")
            (self.folder / name).rename(self.folder / f"{name}-failed")
        return self.visit(name, server, **how)

    def _keep_records(self, run: Path) -> None:
        """The records of earlier stages are the same in every run of the load suite: they are kept once."""
        records = self.folder / "records"
        if records.exists():
            shutil.rmtree(run / "records", ignore_errors=True)
        elif (run / "records").exists():
            (run / "records").rename(records)

    def stop(self) -> None:
        """Stop what the last visit left running."""
        roots = ("--artifacts", str(self.store.artifacts), "--results", str(self.store.results))
        processes.run_stage("serving.undeploy", *roots)

    def close(self) -> None:
        """As `stop`; a second Ctrl-C does not cut this short."""
        ignore_interrupts()
        self.stop()


def measured(folder: Path, *options: str) -> dict[str, Any]:
    """Run the load suite, which writes into `folder`; its summary. INVALID is a result. Raises StageError for the rest."""
    try:
        processes.run_stage("loadtest.run", *options)
    except StageError as error:
        if error.exit_code != InvalidError.exit_code:
            raise
    return dict(json.loads((folder / "summary.json").read_text(encoding="utf-8")))
