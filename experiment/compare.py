"""The whole experiment on one model, ending in a verdict: default against default, and best against best.

`python -m experiment.compare --model cnn --servers torchserve,tfserving --profile quick`
  1. runs the stages that are missing (train, export, verify);
  2. measures each server's closed-loop capacity as installed, which fixes one open-loop rate for all;
  3. spends the same number of trials on each server's settings (experiment/tuning.py);
  4. visits the servers one at a time, repeated and interleaved in an order drawn from the seed (experiment/plan.py);
  5. measures the floors and where the time goes, checks fairness, compares (faceoff.verdict), writes results/<run>/, its report.
Servers of another deploy must be stopped first; whatever happens, all that is started here is stopped. Exit code 3: measured, and
INVALID. A run that fails leaves what it measured in results/<run>.partial/.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiment import cost, fairness, floors, plan, results, tuning
from experiment.cost import Prices
from experiment.demo import missing_stages
from experiment.plan import Profile
from experiment.results import Done
from experiment.tuning import Outcome, Trial
from experiment.visit import Bench, Load
from faceoff import cli, devices, presets, processes, progress, servables
from faceoff.errors import FaceoffError, InvalidError, StageError, UsageError
from faceoff.store import Store, replacing_directory
from serving import state
from serving.deploy import resolve

DEFAULT_SEED = 1
PROTOCOLS = ("rest", "grpc")
SCENARIOS = "closed,server,max_qps"  # of a visit


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Run the experiment; returns the verdict's sentences and where everything is. Raises InvalidError after the report."""
    presets.model(args.model)
    profile, device = plan.profile(args.profile), devices.resolve(args.device)
    servers, protocols = resolve(args.servers), _protocols(args.protocols)
    if len(servers) < 2:
        raise UsageError(f"SERVERS={args.servers}: expected at least two servers to compare")
    prices = cost.read(args.prices) if args.prices else None
    store = cli.store(args)
    run_dir = store.run_dir(args.run)
    if state.read(store):
        raise UsageError(f"servers are deployed from {store.artifacts}: run make undeploy first, so that one runs at a time")
    for model in (args.model, floors.MODEL):
        _prepare(store, model, device)
    options = {"model": args.model, "servers": servers, "protocols": list(protocols), "profile": profile.name, "seed": args.seed}
    with _folder(run_dir) as folder:
        bench = Bench(store=store, model=args.model, device=device, protocols=protocols, folder=folder)
        experiment = Experiment(bench=bench, profile=profile, servers=servers, seed=args.seed, prices=prices)
        try:
            experiment.run()
        finally:
            bench.close()
        sentences, reasons = experiment.write(args.run, {**options, "device": device})
    roots = ("--artifacts", str(store.artifacts), "--results", str(store.results))
    built = processes.run_stage("report.build", "--run", args.run, *roots)
    progress.say("")
    for sentence in sentences:
        progress.say(sentence)
    details = {"run": args.run, "verdict": sentences, "report": built["report"], "summary": str(run_dir / "summary.json")}
    if reasons:
        for reason in reasons:
            progress.say(f"INVALID: {reason}")
        raise InvalidError(f"{len(reasons)} reasons not to believe this comparison (first: {reasons[0]})", details)
    return details


@dataclass(kw_only=True)
class Experiment:
    """The steps, each of which leaves its result here for the next."""

    bench: Bench
    profile: Profile
    servers: list[str]
    seed: int
    prices: Prices | None
    started: float = field(default_factory=time.monotonic)
    rate: float | None = None
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    floors: floors.Floors | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)  # metrics that not every visit had time for
    short: list[str] = field(default_factory=list)  # what this profile leaves short, in sentences that name the one that does not

    def run(self) -> None:
        """All that is measured."""
        if self.profile.name != "full":
            few = f"{self.profile.trials} trials a server, {self.profile.repeats} repeats, max_qps by {self.profile.probes} rates"
            self.short.append(f"{few}: PROFILE=full does more of each")
        for step in (self._fix_rate, self._tune, self._visit, self._find_floors):
            before = time.monotonic()
            step()
            self.seconds[step.__name__.strip("_")] = round(time.monotonic() - before, 1)

    def _load(self, scenarios: str, *, repeat: int = 0) -> Load:
        return Load(
            profile=self.profile.load,
            scenarios=scenarios,
            seed=self.seed + repeat,
            rate=self.rate if "server" in scenarios else None,
            probes=self.profile.probes,
            rest_s=self.profile.rest_s,
        )

    def _fix_rate(self) -> None:
        """One open-loop rate for all: a part of the lowest capacity that any server has over any protocol, as installed."""
        capacities: dict[tuple[str, str], float] = {}
        for server in self.servers:
            self._say(f"capacity of {server} as installed")
            load = self._load("closed")
            visited = self.bench.visit(f"capacity/{server}", server, tuning="default", overrides={}, load=load)
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
        progress.say(
            f"plan: {profile.trials} trials a server, {len(visits)} visits ({profile.repeats} x {len(self.servers)} servers "
            f"x {len(plan.TUNINGS)} tunings, {profile.aa} server against itself), about {total / 60:.0f} minutes"
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
        rates = [m["throughput_rps"] for m in visited.measurements]
        return Outcome(value=math.prod(rates) ** (1 / len(rates)))

    def _visit(self) -> None:
        visits, block_s = plan.visits(self.servers, self.profile, self.seed), 0.0
        for repeat, block in itertools.groupby(visits, key=lambda visit: visit.repeat):
            before, scenarios = time.monotonic(), self._affordable(repeat, block_s)
            for visit in block:
                self._say(f"visit {visit.order} of {len(visits)}: {visit.server}, {visit.tuning}")
                best = visit.tuning == "best"
                settings = tuning.winner(self.trials[visit.server]).settings if best else {}
                visited = self.bench.visit(
                    f"visits/{visit.id}",
                    visit.server,
                    tuning="tuned" if best else "default",
                    overrides=settings,
                    load=self._load(scenarios, repeat=repeat),
                )
                self.done.append(Done(visit=visit, settings=settings, visited=visited))
            if scenarios == SCENARIOS:
                block_s = time.monotonic() - before

    def _affordable(self, repeat: int, block_s: float) -> str:
        """The scenarios of a block of visits: without max_qps when blocks as long as the last whole one would end too late."""
        left = self.profile.repeats - repeat + 1
        if self.until is None or time.monotonic() + left * block_s <= self.until:
            return SCENARIOS
        self.left_out.add("max_qps")
        self.short.append(f"max_qps left out of repeat {repeat} for want of time: PROFILE=full measures it in each")
        return SCENARIOS.replace(",max_qps", "")

    @property
    def until(self) -> float | None:
        """When the profile's time is over (time.monotonic)."""
        return None if self.profile.budget_s is None else self.started + self.profile.budget_s

    def _find_floors(self) -> None:
        self.floors = floors.measure(self.bench, self.servers, self._load("closed,server"), self.until)
        self.short += self.floors.short

    def write(self, run: str, options: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Check fairness, compare and write; returns the verdict's sentences and the reasons why the run is INVALID."""
        assert self.floors is not None
        findings = []
        for kind, (a, b) in itertools.product(plan.TUNINGS, itertools.combinations(self.servers, 2)):
            findings += fairness.check(kind, *((s, [d.visited.facts for d in self._of(s, kind)]) for s in (a, b)))
        fairness.table(findings)
        comparisons, missed = results.judge(self.done, self.servers, self.bench.protocols)
        reasons = [*fairness.reasons(findings), *(sentence for metric, sentence in missed if metric not in self.left_out)]
        self.short += [sentence for metric, sentence in missed if metric in self.left_out]
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
            "cost": cost.table(self.prices, self.done, self.bench.protocols) if self.prices else None,
            "valid": not reasons,
            "invalid_reasons": reasons,
        }
        results.write(self.bench.folder, run=run, done=self.done, record=record, comparisons=comparisons)
        return [c.sentence for c in comparisons], reasons

    def _of(self, server: str, kind: str) -> list[Done]:
        return [d for d in self.done if d.visit.server == server and d.visit.tuning == kind]

    def _say(self, text: str) -> None:
        progress.say(f"\n== {text} ({time.monotonic() - self.started:.0f} s)")


def _prepare(store: Store, model: str, device: str) -> None:
    """Run the stages of `model` that are missing."""
    roots = ("--artifacts", str(store.artifacts), "--results", str(store.results))
    for name, module in (("train", "training.train"), ("export", "export.export"), ("verify", "export.verify")):
        if name not in missing_stages(store, model):
            continue
        progress.say(f"\n== {name} {model}")
        processes.run_stage(module, "--model", model, *(("--device", device) if name == "train" else ()), *roots)


def _protocols(text: str) -> tuple[str, ...]:
    names = cli.comma_list(text)
    if not names or set(names) - set(PROTOCOLS) or len(set(names)) < len(names):
        raise UsageError(f"PROTOCOLS={text}: expected {', '.join(PROTOCOLS)} or one of them")
    return tuple(name for name in PROTOCOLS if name in names)


@contextmanager
def _folder(run_dir: Path) -> Iterator[Path]:
    """The run's folder, put in place as a whole; after a failure what is there is kept beside it, and that is said."""
    if run_dir.exists():
        progress.say(f"{run_dir} exists: it is replaced when this run has finished")
    with replacing_directory(run_dir) as folder:
        try:
            yield folder
        except BaseException:
            partial = run_dir.with_name(f"{run_dir.name}.partial")
            if any(folder.iterdir()):
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(folder, partial)
                progress.say(f"compare: what was measured so far is in {partial}")
            raise


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m experiment.compare`."""
    parser = cli.Parser(prog="python -m experiment.compare", description=__doc__)
    parser.add_model()
    parser.add_argument("--servers", default="torchserve,tfserving", help="comma list (default: %(default)s)")
    parser.add_argument("--protocols", default="rest,grpc", help="comma list (default: %(default)s)")
    parser.add_argument("--profile", default="quick", help="quick or full (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of order, schedules and tuner (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    prices = "YAML price list (experiment/cost.py), for the cost of a million inferences"
    parser.add_argument("--prices", type=Path, metavar="FILE", help=prices)
    parser.add_argument("--run", default="compare", help="name of the run (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, compare, argv)


if __name__ == "__main__":
    raise SystemExit(main())
