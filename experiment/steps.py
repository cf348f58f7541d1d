"""The steps of the experiment (experiment/compare.py says what it is for), each of which leaves its result for the next.

A visit that fails is tried once more, then it is left out and told: its figures are missing, as an INVALID one's are. What fails
three times in a row will fail again, and ends the experiment.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from experiment import cost, fairness, floors, plan, results, tuning, wide
from experiment.cost import Prices
from experiment.plan import Profile, Visit
from experiment.results import Done
from experiment.tuning import Outcome, Trial
from experiment.visit import Bench, Load
from faceoff import presets, progress, servables
from faceoff.errors import FaceoffError, StageError
from faceoff.verdict import FEWEST_VISITS
from serving.protocols import ENCODINGS

SCENARIOS, WITHOUT_SEARCH = "closed,server,max_qps", "closed,server"  # of a visit
MAX_FAILED = 3  # visits, one after the other


@dataclass(kw_only=True)
class Experiment:
    """What was asked for, and what the steps left so far."""

    bench: Bench
    profile: Profile
    servers: list[str]
    seed: int
    prices: Prices | None
    started: float = field(default_factory=time.monotonic)
    capacities: dict[tuple[str, str], float] = field(default_factory=dict)  # (server, protocol), as installed
    rate: float | None = None
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    failed: list[tuple[Visit, str]] = field(default_factory=list)  # twice each, with the reason
    failed_in_a_row: int = 0
    floors: floors.Floors | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    closed_s: dict[tuple[str, str], float] = field(default_factory=dict)  # (server, tuning): a visit of the closed loop alone
    left_out: dict[str, list[int]] = field(default_factory=dict)  # metric -> the repeats whose visits had no time for it
    short: list[str] = field(default_factory=list)  # what this profile leaves short, in sentences that name the one that does not

    def run(self) -> None:
        """All that is measured."""
        if self.profile.name != "full":
            profile = self.profile
            few = f"{profile.trials} trials a server, {profile.repeats} repeats, {profile.probes} rates a search of max_qps"
            self.short.append(f"{few}: PROFILE=full does more of each")
        for step in (self._fix_rate, self._tune, self._visit, self._find_floors, self._widen):
            before = time.monotonic()
            step()
            self.seconds[step.__name__.strip("_")] = round(time.monotonic() - before, 1)

    def _load(self, scenarios: str, *, repeat: int = 0) -> Load:
        return Load(
            profile=self.profile.load,
            scenarios=scenarios,
            seed=self.seed + repeat,
            rate=self.rate if "server" in scenarios else None,
            probes=self.profile.probes if "max_qps" in scenarios else None,
            rest_s=self.profile.rest_s,
        )

    def _fix_rate(self) -> None:
        """One open-loop rate for all: a part of the lowest capacity that any server has over any protocol, as installed."""
        capacities = self.capacities
        for server in self.servers:
            self._say(f"capacity of {server} as installed")
            load = self._load("closed")
            before = time.monotonic()
            how: dict[str, Any] = {"tuning": "default", "overrides": {}, "proven": ENCODINGS}  # here, for the report, all of them
            visited = self.bench.insist(f"{results.CAPACITY}/{server}", server, load=load, **how)
            self.closed_s[server, "default"] = time.monotonic() - before
            capacities |= {(server, m["protocol"]): m["throughput_rps"] for m in visited.measurements}
        slowest = min(capacities, key=lambda way: capacities[way])
        if not capacities[slowest] > 0:
            raise FaceoffError(f"{slowest[0]} answered nothing over {slowest[1]} as installed; the reasons are above")
        self.rate = self.profile.rate_fraction * capacities[slowest]
        progress.say(f"rate of the open loop: {self.rate:.1f} requests/s for every server, over every protocol")
        self._plan(capacities, self.rate)

    def _plan(self, capacities: Mapping[tuple[str, str], float], rate: float) -> None:
        profile, visits = self.profile, plan.visits(self.servers, self.profile, self.seed)
        load = presets.load_profile(profile.load)
        measured = [
            plan.load_seconds(load, profile, capacity, rate)
            for visit in visits
            for (server, _), capacity in capacities.items()
            if server == visit.server
        ]
        total = sum(measured) + plan.DEPLOY_S * (len(visits) + profile.trials * len(self.servers))
        lowest = min(capacities.values())
        for server in self.servers:
            own = {protocol: rps for (of, protocol), rps in capacities.items() if of == server and rps > 0}
            total += len(plan.TUNINGS) * (plan.DEPLOY_S + wide.seconds(load, lowest, own))
        progress.say(
            f"plan: {profile.trials} trials a server, {len(visits)} visits ({profile.repeats} x {len(self.servers)} servers "
            f"x {len(plan.TUNINGS)} tunings, {profile.aa} server against itself), then sweeps and encodings, about "
            f"{total / 60:.0f} minutes"
        )

    def _tune(self) -> None:
        formats = {servable.format for servable in servables.read_exported(self.bench.store, self.bench.model, 1)[2].values()}
        for server in self.servers:
            space = tuning.offered(server, plan.space(server), formats)
            measure = functools.partial(self._trial, server)
            found = tuning.search(server, space, trials=self.profile.trials, seed=self.seed, measure=measure)
            self.trials[server] = found
            tuning.write(self.bench.folder / "tuning" / f"{server}.json", server, self.seed, self.trials[server])

    def _trial(self, server: str, number: int, settings: Mapping[str, Any]) -> Outcome:
        self._say(f"trial {number} of {server}")
        name = f"tuning/{server}-{number:02d}"
        before = time.monotonic()
        for place in (name, f"{name}-again"):  # a disturbance must not decide what is best: an INVALID trial has a second chance
            try:
                visited = self.bench.visit(place, server, tuning="tuned", overrides=settings, load=self._load("closed"))
            except StageError as error:
                return Outcome(value=None, reasons=[str(error)])
            reasons = [reason for m in visited.measurements for reason in m["invalid_reasons"]]
            if not reasons:
                break
        else:
            return Outcome(value=None, reasons=reasons)
        best = (server, "best")  # the trial that took least is most like the winner
        self.closed_s[best] = min(time.monotonic() - before, self.closed_s.get(best, math.inf))
        rates = [m["throughput_rps"] for m in visited.measurements]
        return Outcome(value=math.prod(rates) ** (1 / len(rates)))

    def _visit(self) -> None:
        visits = plan.visits(self.servers, self.profile, self.seed)
        last, block_s = visits[-1].order, self._expected([visit for visit in visits if visit.repeat == 1])
        for repeat, block in itertools.groupby(visits, key=lambda visit: visit.repeat):
            before, scenarios = time.monotonic(), self._affordable(repeat, block_s)
            for visit in block:
                self._say(f"visit {visit.order} of {last}: {visit.server}, {visit.tuning}")
                self._one(visit, {"load": self._load(scenarios, repeat=repeat)})
            block_s[scenarios] = time.monotonic() - before

    def _expected(self, block: Sequence[Visit]) -> dict[str, float]:
        """About how many seconds a block of visits takes, with max_qps and without, from what was measured before it."""
        load = presets.load_profile(self.profile.load)
        assert self.rate is not None
        open_s = load.windows * load.requests_per_window / self.rate * len(self.bench.protocols)
        without = sum(self.closed_s.get((visit.server, visit.tuning), plan.DEPLOY_S) + open_s for visit in block)
        capacities = [rps for visit in block for (server, _), rps in self.capacities.items() if server == visit.server]
        searches = sum(plan.search_seconds(load, self.profile, rps) for rps in capacities if rps > 0)
        return {SCENARIOS: without + searches, WITHOUT_SEARCH: without}

    def _one(self, visit: Visit, loads: Mapping[str, Load]) -> None:
        """A visit, done or failed. Raises FaceoffError for too many failed ones in a row."""
        best = visit.tuning == "best"
        settings = tuning.winner(self.trials[visit.server]).settings if best else {}
        how = {"tuning": "tuned" if best else "default", "overrides": settings}
        load, more = loads["load"], {name: load for name, load in loads.items() if name != "load"}
        try:
            visited = self.bench.insist(f"visits/{visit.id}", visit.server, **how, load=load, more=more)
        except StageError as error:
            self.failed.append((visit, str(error)))
            self.failed_in_a_row += 1
            progress.say(f"visit {visit.id} failed twice and is left out: {error}")
            if self.failed_in_a_row == MAX_FAILED:
                raise FaceoffError(f"{MAX_FAILED} visits in a row failed, the last one because: {error}") from error
            return
        self.failed_in_a_row = 0
        self.done.append(Done(visit=visit, settings=settings, visited=visited))

    def _affordable(self, repeat: int, block_s: Mapping[str, float]) -> str:
        """The scenarios of a block of visits: without max_qps where the blocks after it, without, would then end too late."""
        left = self.profile.repeats - repeat
        if self.until is None or time.monotonic() + block_s[SCENARIOS] + left * block_s[WITHOUT_SEARCH] <= self.until:
            return SCENARIOS
        self.left_out.setdefault("max_qps", []).append(repeat)
        self.short.append(f"max_qps left out of repeat {repeat} for want of time: PROFILE=full measures it in each")
        return WITHOUT_SEARCH

    @property
    def until(self) -> float | None:
        """When the profile's time is over (time.monotonic)."""
        return None if self.profile.budget_s is None else self.started + self.profile.budget_s

    def _planned(self, metric: str) -> bool:
        """Whether enough visits measured it for a verdict, had all of them been VALID; every server is visited once a repeat."""
        return self.profile.repeats - len(self.left_out.get(metric, ())) >= FEWEST_VISITS

    def _find_floors(self) -> None:
        self.floors = floors.measure(self.bench, self.servers, self._load("closed,server"), self.until)
        self.short += self.floors.short

    def _widen(self) -> None:
        """The wide visits, those of a tuning for every server or for none."""
        profile, lowest = presets.load_profile(self.profile.load), min(self.capacities.values())
        visits = plan.wide_visits(self.servers, self.profile, self.seed)
        for kind, block in itertools.groupby(visits, key=lambda visit: visit.tuning):
            mine = [(visit, wide.capacities(self.done, visit.server, kind, self.bench.protocols)) for visit in block]
            expected_s = sum(plan.DEPLOY_S + wide.seconds(profile, lowest, own) for _, own in mine)
            if self.until is not None and time.monotonic() + expected_s > self.until:
                words = {"default": "as installed", "best": "with the best settings"}[kind]
                self.short.append(f"sweep and encodings {words} left out for want of time: PROFILE=full measures them")
                continue
            for visit, own in mine:
                self._say(f"sweep and encodings of {visit.server}, {kind}")
                self._one(visit, wide.loads(self._load("closed"), lowest, own))

    def write(self, run: str, options: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Check fairness, compare and write; returns the verdict's sentences and the reasons why the run is INVALID."""
        assert self.floors is not None
        findings = []
        for kind, (a, b) in itertools.product(plan.TUNINGS, itertools.combinations(self.servers, 2)):
            findings += fairness.check(kind, *((s, [d.visited.facts for d in self._of(s, kind)]) for s in (a, b)))
        fairness.table(findings)
        comparisons, missed = results.judge(self.done, self.servers, self.bench.protocols)
        reasons = [*fairness.reasons(findings), *(sentence for metric, sentence in missed if self._planned(metric))]
        self.short += [sentence for metric, sentence in missed if not self._planned(metric)]
        record = {
            "model": self.bench.model,
            "seed": self.seed,
            "profile": self.profile.name,
            "options": options,
            "plan": {**asdict(self.profile), "rate": self.rate, "seconds": self.seconds, "short": self.short},
            "tuning": {server: [asdict(trial) for trial in trials] for server, trials in self.trials.items()},
            "winners": {server: tuning.winner(trials).number for server, trials in self.trials.items()},
            "fairness": [finding.to_dict() for finding in findings],
            "floors": self.floors.entries,
            "breakdown": self.floors.breakdown(self.done),
            "cost": cost.table(self.prices, self._turns, self.bench.protocols) if self.prices else None,
            "failed": [{**asdict(visit), "reason": reason} for visit, reason in self.failed],
            "valid": not reasons,
            "invalid_reasons": reasons,
        }
        results.write(self.bench.folder, run=run, done=self.done, record=record, comparisons=comparisons)
        return [c.sentence for c in comparisons], reasons

    @property
    def _turns(self) -> list[Done]:
        """The visits that are compared: a wide one sends what it likes."""
        return [d for d in self.done if d.visit.role != "wide"]

    def _of(self, server: str, kind: str) -> list[Done]:
        return [d for d in self._turns if d.visit.server == server and d.visit.tuning == kind]

    def _say(self, text: str) -> None:
        progress.say(f"\n== {text} ({time.monotonic() - self.started:.0f} s)")
