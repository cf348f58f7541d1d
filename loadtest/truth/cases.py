"""The cases of the self-test: a server of known truth, a load, and what a perfect instrument would report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceoff import stats
from faceoff.cores import CoreSplit
from faceoff.endpoints import Endpoint
from faceoff.presets import LoadProfile
from faceoff.store import Store
from loadtest import schedules, search_rules
from loadtest.answers import against_bodies
from loadtest.options import Options
from loadtest.plan import Plan
from loadtest.rows import Rows
from loadtest.targets import Pool, Target
from loadtest.truth.behaviours import MS, STRIKE_EVERY, STRIKES, Behaviour, due_ns
from loadtest.truth.server import Log, Server

NUM_BODIES = 1024
WINDOW_REQUESTS = 250
REST_S = 5.0  # of waiting for the machine to come to rest, in each case
PERCENTILES = ("p50", "p99", "p99_9")
TIMEOUT_S = 1.0
STOCK_USERS = 10
_KEY_NS = 1 << 41  # more than the ns of any run


@dataclass(frozen=True, kw_only=True)
class Case:
    """One server under one load. `rate` in requests a second; in a closed loop `connections` counts."""

    behaviour: Behaviour
    scenario: str = "server"
    protocol: str = "rest"
    rate: float = 0.0
    connections: int = 64
    num_requests: int = 0
    stock: bool = True  # whether stock Locust is run beside it

    @property
    def name(self) -> str:
        """E.g. fixed, or fixed-grpc."""
        return self.behaviour.kind if self.protocol == "rest" else f"{self.behaviour.kind}-{self.protocol}"


FIXED = Behaviour(kind="fixed", service_ms=10.0)
CASES = (
    Case(behaviour=FIXED, rate=300.0, num_requests=3000),
    Case(behaviour=FIXED, scenario="closed", connections=4, num_requests=1500, stock=False),
    Case(behaviour=FIXED, protocol="grpc", rate=300.0, num_requests=2000, stock=False),
    Case(behaviour=Behaviour(kind="stalls", service_ms=10.0, stall_ms=200.0, period_ms=2000.0), rate=200.0, num_requests=2000),
    Case(behaviour=Behaviour(kind="queue", service_ms=5.0), rate=140.0, num_requests=2000),
    Case(behaviour=Behaviour(kind="drops", service_ms=10.0), rate=200.0, num_requests=1000),
    Case(behaviour=Behaviour(kind="wrong", service_ms=10.0), rate=200.0, num_requests=1000),
    Case(behaviour=Behaviour(kind="closes", service_ms=10.0), rate=200.0, num_requests=1000),
)
SEARCH = Case(behaviour=Behaviour(kind="queue", service_ms=2.0), scenario="max_qps", rate=300.0, num_requests=2000)
SEARCH_SLO_MS = 10.0


def plan(
    case: Case,
    server: Server,
    split: CoreSplit,
    folder: Path,
    *,
    seed: int,
    repeats: int,
    repeat_until: float = math.inf,
    search_s: float = 60.0,
) -> Plan:
    """The load test of a case, as `loadtest.plan` would make it. Its windows are short: what is flagged is soon repeated."""
    port = server.http if case.protocol == "rest" else server.grpc
    address = f"127.0.0.1:{port}"
    bodies = tuple(b"%d" % number for number in range(NUM_BODIES))
    endpoint = Endpoint(
        server=case.name,
        model="truth",
        version=0,
        rest_url=f"http://{address}",
        grpc_target=address,
        metrics_url=None,
        device="cpu",
        settings=case.behaviour.to_dict(),
        artifact_format="",
        precision="",
        tolerance=0.0,
        implementation="loadtest.truth.server",
        export_sha256="",
        pids=[server.pid],
    )
    target = Target(
        endpoint=endpoint,
        protocol=case.protocol,
        encoding="bytes",
        host="127.0.0.1",
        port=port,
        path="/truth.Server/Answer",
        content_type="text/plain",
        pool=lambda: Pool(payloads=bodies),
        problem=against_bodies([b"ok " + body for body in bodies], 0.0),
        scenarios=(case.scenario,),
    )
    windows = 1 if case.scenario == "max_qps" else max(1, case.num_requests // WINDOW_REQUESTS)
    profile = LoadProfile(
        name="selftest",
        windows=windows,
        requests_per_window=case.num_requests // windows,
        warmup_requests=200,
        max_window_repeats=repeats,
        closed_connections=4,
        open_connections=256,
        rate_fraction=0.5,
        slo_ms=SEARCH_SLO_MS if case.scenario == "max_qps" else 100.0,
        timeout_s=TIMEOUT_S,
    )
    return Plan(
        options=Options(run="selftest", seed=seed, rest=REST_S if repeats else 0.0),
        store=Store(artifacts=folder, results=folder),
        profile=profile,
        targets=(target,),
        scenarios=(case.scenario,),
        rate=case.rate or None,
        connections=4,
        open_connections=256,
        duration_s=None,
        slo_ms=profile.slo_ms,
        sweep=(),
        trace_ns=None,
        cores=split,
        calibration=None,
        search_s=search_s,
        repeat_until=repeat_until,
    )


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Of the accepted rows of a case. Latencies in ms; counts by the server's own log."""

    latency_ms: dict[str, float | None]
    as_sent_ms: dict[str, float | None]  # the same of the requests as they were sent: what is more than the truth was sent late
    mean_ms: float
    throughput_rps: float
    num_ok: int
    num_struck: int  # dropped, wrong or closed
    lateness_p99_ms: float  # how late the server itself was


def truth(case: Case, rows: Rows, log: Log) -> Truth:
    """What a perfect generator would have seen of these very schedules.

    It would have sent each at its scheduled moment and seen each answer when it was written. From the server's log comes
    what is not the generator's doing: how long a request was on its way until the server read it, and how late
    the server was with its answer. When that answer was due is simulated from the moment of arrival so found.
    """
    entry = _match(rows, log)
    struck = _struck(case, log, entry)
    scheduled = rows.scheduled_ns
    arrivals = scheduled + (log.came[entry] - rows.sent_ns)
    due = np.empty_like(arrivals)
    for window in np.unique(rows.window):  # each begins with an idle server
        mine = np.flatnonzero(rows.window == window)
        order = mine[np.argsort(arrivals[mine], kind="stable")]
        due[order] = due_ns(case.behaviour, arrivals[order], log.epoch_ns)
    late = np.where(log.out[entry] > 0, log.out[entry] - log.due[entry], 0)
    done = due + late
    ok = ~struck if case.behaviour.kind != "wrong" else np.ones(len(rows), dtype=np.bool_)
    span_s = 0.0
    for window in np.unique(rows.window):
        mine = rows.window == window
        ends = np.where(ok, done, scheduled + round(TIMEOUT_S * 1e9) if case.behaviour.kind == "drops" else done)
        span_s += float(ends[mine].max() - scheduled[mine].min()) / 1e9
    latency_ms = (done - scheduled)[ok] / MS
    found = stats.summary(latency_ms)
    as_sent = stats.summary((log.out[entry] - scheduled)[ok] / MS)
    return Truth(
        latency_ms={name: found[name] for name in PERCENTILES},
        as_sent_ms={name: as_sent[name] for name in PERCENTILES},
        mean_ms=float(latency_ms.mean()),
        throughput_rps=int(ok.sum()) / span_s,
        num_ok=int(ok.sum()),
        num_struck=int(struck.sum()),
        lateness_p99_ms=stats.percentile(late / MS, 0.99),
    )


def usual_lateness_ms(log: Log) -> float:
    """How late the server usually was with an answer, by its own log: part of every latency, and not the generator's doing."""
    return float(np.median((log.out - log.due)[log.out > 0])) / MS


def max_qps_truth(case: Case, *, seed: int, late_ms: float = 0.0) -> tuple[float | None, float | None]:
    """What the search would find on the simulated server: by its own rules and schedules, and with a million requests.

    Its answers are `late_ms` late.
    """
    allowed = 0.01

    def over_of(num: int, rate: float, with_seed: int) -> int:
        schedule = schedules.make(
            seed=with_seed, scenario="max_qps", window=0, num_requests=num, num_payloads=NUM_BODIES, rate=rate
        )
        assert schedule.offsets_ns is not None
        latency_ns = due_ns(case.behaviour, schedule.offsets_ns) - schedule.offsets_ns
        return int((latency_ns > (SEARCH_SLO_MS - late_ms) * MS).sum())

    def passes(rate: float, below: float | None) -> bool:
        window = search_rules.window(rate, below, seed=seed, num_requests=case.num_requests, slo_ms=SEARCH_SLO_MS)
        assert window is not None
        counted = search_rules.judged(
            lambda num, _: over_of(num, rate, window.seed), window.num_requests, allowed, window.at_least
        )
        return counted[0]

    def refuted(rate: float, number: int) -> bool:
        num = search_rules.confirmation_requests(case.num_requests, rate, SEARCH_SLO_MS)
        over = over_of(num, rate, search_rules.confirmation_seed(seed, number))
        return search_rules.verdict(num, over, allowed) is False

    def passes_at_length(rate: float) -> bool:
        num = 1_000_000
        return over_of(num, rate, 0) <= search_rules.most_over(num, allowed)

    _, found = search_rules.highest_confirmed(passes, refuted, case.rate)
    return found, search_rules.highest(passes_at_length, case.rate)


def _match(rows: Rows, log: Log) -> npt.NDArray[np.int64]:
    """For each row the place of its entry in the log: the first of its number that came after it was sent."""
    start = int(min(log.came.min(), rows.sent_ns.min()))
    keys = log.number * _KEY_NS + (log.came - start)
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys[order], rows.payload * _KEY_NS + (rows.sent_ns - start))
    found = order[np.minimum(at, len(order) - 1)]
    assert (log.number[found] == rows.payload).all(), "a request that the server never saw"
    return np.asarray(found, dtype=np.int64)


def _struck(case: Case, log: Log, entry: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    if case.behaviour.kind not in STRIKES:
        return np.zeros(len(entry), dtype=np.bool_)
    return np.asarray(entry % STRIKE_EVERY == STRIKE_EVERY - 1, dtype=np.bool_)
