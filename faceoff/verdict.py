"""From repeated visits to an answer: A faster, B faster, no difference larger than the noise floor, or cannot tell.

    pairs = [Pair(metric="p99", a="torchserve", b="tfserving", a_values=..., b_values=..., ...), ...]
    comparisons = judge(pairs)          # one of summary.json's "comparisons" each: Comparison.to_dict()

The rule, for all comparisons of a run together (docs/decisions/0018-verdict.md):
- The ratio a/b has an interval (faceoff.ratios). All intervals together hold the truth in 95 of 100 experiments.
- A server against itself (A/A) has one too. Its far end is the **noise floor**: the largest difference between two groups
  of visits that need not mean anything. It is at least 1%.
- Faster: the interval leaves out 1 and the ratio is beyond the floor.
- No difference: the whole interval is within the floor, or within 5% where the floor is lower; never with a floor above 20%.
- Anything else: cannot tell, with the number of further repeats after which four of five such experiments could.
- Without an A/A run there is no floor: a difference can be found, its absence cannot be shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from faceoff import ratios

CONFIDENCE = 0.95
FEWEST_VISITS = 2  # a side; below that there is no variance to speak of
FARTHEST = 1000.0  # times: an interval that reaches farther says that nothing is known, and its digits say nothing more
_LARGEST = 700.0  # of a logarithm whose number is still one: two visits that are far apart give wider intervals

Verdict = Literal["a_faster", "b_faster", "no_difference", "cannot_tell"]
SERVERS = {"torchserve": "TorchServe", "tfserving": "TensorFlow Serving", "tfserving-embedded": "tfserving-embedded"}
PROTOCOLS = {"rest": "REST", "grpc": "gRPC"}
TUNINGS = {"default": "as installed", "best": "each with its best settings"}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a figure is called (`short` where there is little room), which way is better, what the better one is said to do."""

    words: str
    short: str
    unit: str
    higher_is_better: bool = False
    wins: str = "is faster"


METRICS = {
    "p50": Metric(words="p50 latency", short="p50", unit="ms"),
    "p99": Metric(words="p99 latency", short="p99", unit="ms"),
    "throughput_rps": Metric(words="throughput", short="throughput", unit="requests/s", higher_is_better=True),
    "max_qps": Metric(words="highest rate within the SLO", short="highest rate", unit="requests/s", higher_is_better=True),
    "cpu_us_per_request": Metric(words="CPU time a request", short="CPU a request", unit="µs", wins="needs less CPU"),
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two groups of visits to be compared: one value a visit, VALID ones only.

    `kind` "aa" is a server against itself (a == b). `at` is the load in words ("200 requests/s"). `resolution` is how far
    apart, as a fraction, neighbouring values of the figure are (max_qps by few probes); the interval is widened by it.
    """

    metric: str
    a: str
    b: str
    a_values: tuple[float, ...]
    b_values: tuple[float, ...]
    kind: Literal["ab", "aa"] = "ab"
    model: str = ""
    protocol: str = ""
    encoding: str = ""
    scenario: str = ""
    tuning: str = "default"
    at: str = ""
    resolution: float = 0.0

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric {self.metric!r}: expected one of {', '.join(METRICS)}")
        if (self.kind == "aa") != (self.a == self.b):
            raise ValueError(f"kind {self.kind!r} of {self.a} and {self.b}: a server against itself is aa, two servers are ab")

    @property
    def cell(self) -> tuple[str, ...]:
        """What an A/A run must have in common with a comparison to be its noise floor."""
        return (self.metric, self.model, self.protocol, self.encoding, self.scenario)

    @property
    def enough(self) -> bool:
        """Whether there are visits enough for an interval."""
        return min(len(self.a_values), len(self.b_values)) >= FEWEST_VISITS

    @property
    def where(self) -> str:
        """Under what circumstances, in words."""
        protocol = PROTOCOLS.get(self.protocol, self.protocol)
        way = f"{protocol} ({self.encoding})" if self.encoding else protocol
        return ", ".join(part for part in (way, self.at, TUNINGS.get(self.tuning, self.tuning)) if part)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One entry of summary.json's `comparisons`.

    `noise_floor` is a fraction, None without an A/A run; `more_repeats` is None where it is not the question and where it is
    more than `ratios.MOST_REPEATS`.
    """

    kind: str
    metric: str
    model: str
    protocol: str
    encoding: str
    scenario: str
    tuning: str
    a: str
    b: str
    ratio: float
    ci_low: float
    ci_high: float
    verdict: Verdict
    sentence: str
    at: str
    noise_floor: float | None
    more_repeats: int | None
    num_comparisons: int
    a_values: tuple[float, ...]
    b_values: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """As it stands in summary.json."""
        return asdict(self)


def judge(pairs: Sequence[Pair]) -> list[Comparison]:
    """Compare every pair that has visits enough: the A/A ones first, whose floors the others are held against.

    The number of comparisons that the intervals are corrected for is that of all servers' pairs given, judged or not.
    """
    number = max(sum(pair.kind == "ab" for pair in pairs), sum(pair.kind == "aa" for pair in pairs), 1)
    itself = {
        pair: compare(pair, noise_floor=None, num_comparisons=number) for pair in pairs if pair.kind == "aa" and pair.enough
    }

    def floor(pair: Pair) -> float | None:
        alike = [(aa.tuning, c.noise_floor) for aa, c in itself.items() if aa.cell == pair.cell and c.noise_floor is not None]
        nearest = [value for tuning, value in alike if tuning == pair.tuning] or [value for _, value in alike]
        return max(nearest, default=None)

    others = [p for p in pairs if p.kind == "ab" and p.enough]
    return [*itself.values(), *(compare(p, noise_floor=floor(p), num_comparisons=number) for p in others)]


def unjudged(pairs: Sequence[Pair]) -> list[str]:
    """A sentence for every pair that `judge` leaves out."""
    return [
        f"No verdict on {METRICS[p.metric].words} [{p.where}]: {len(p.a_values)} VALID of {label(p.a)} and {len(p.b_values)} of "
        f"{label(p.b)}, needs at least {FEWEST_VISITS} of each."
        for p in pairs
        if not p.enough
    ]


def compare(pair: Pair, *, noise_floor: float | None, num_comparisons: int) -> Comparison:
    """Compare one pair. Raises ValueError for fewer than two visits on a side or a value that is not a positive number."""
    confidence = ratios.bonferroni(CONFIDENCE, num_comparisons)
    difference, half = (float(x) for x in ratios.log_ratio(pair.a_values, pair.b_values, confidence))
    slack = math.log1p(pair.resolution)
    half += slack
    if pair.kind == "aa":
        outcome = int(ratios.decide(difference, half))
        noise_floor = max(math.expm1(min(abs(difference) + half, _LARGEST)), ratios.SMALLEST)
        verdict: Verdict = "no_difference" if outcome == 0 else _faster(pair, outcome)
    else:
        noise_floor = None if noise_floor is None else max(noise_floor, ratios.SMALLEST)
        outcome = int(ratios.decide(difference, half, noise_floor))
        verdict = "cannot_tell" if outcome == 0 else "no_difference" if outcome == ratios.ABSENT else _faster(pair, outcome)
    more = None
    if verdict == "cannot_tell":
        visits = max(len(pair.a_values), len(pair.b_values))
        deviations = float(np.std(np.log(pair.a_values), ddof=1)), float(np.std(np.log(pair.b_values), ddof=1))
        seen = ratios.Truth(difference=difference, deviations=deviations, confidence=confidence, floor=noise_floor, slack=slack)
        needed = ratios.repeats_needed(seen, visits)
        more = None if needed is None else needed - visits
    ratio, low, high = (math.exp(max(-_LARGEST, min(x, _LARGEST))) for x in (difference, difference - half, difference + half))
    return Comparison(
        kind=pair.kind,
        metric=pair.metric,
        model=pair.model,
        protocol=pair.protocol,
        encoding=pair.encoding,
        scenario=pair.scenario,
        tuning=pair.tuning,
        a=pair.a,
        b=pair.b,
        ratio=ratio,
        ci_low=low,
        ci_high=high,
        verdict=verdict,
        sentence=_sentence(pair, verdict, (ratio, low, high), noise_floor, more),
        at=pair.at,
        noise_floor=noise_floor,
        more_repeats=more,
        num_comparisons=num_comparisons,
        a_values=pair.a_values,
        b_values=pair.b_values,
    )


def _faster(pair: Pair, sign: int) -> Verdict:
    return "a_faster" if (sign > 0) == METRICS[pair.metric].higher_is_better else "b_faster"


def label(server: str) -> str:
    """A server's name as people read it; `tfserving-embedded` keeps its own."""
    return SERVERS.get(server, server)


def _sentence(
    pair: Pair, verdict: Verdict, ratio: tuple[float, float, float], noise_floor: float | None, more: int | None
) -> str:
    metric = METRICS[pair.metric]
    larger, smaller = (pair.a, pair.b) if ratio[0] >= 1 else (pair.b, pair.a)
    times, low, high = ratio if ratio[0] >= 1 else (1 / ratio[0], 1 / ratio[2], 1 / ratio[1])
    factor = f"{_times(times)} times ({_times(low)} to {_times(high)})"
    where = pair.where
    floor = "" if noise_floor is None else _percent(noise_floor)
    if pair.kind == "aa":
        told = f"{metric.words} {factor} between its own visits"
        if verdict == "no_difference":
            return f"{label(pair.a)} against itself: {told}, so the noise floor is {floor} [{where}]."
        return f"{label(pair.a)} differs from itself: {told}; no difference below {floor} is to be believed [{where}]."
    told = f"{label(larger)}'s {metric.words} is {factor} {label(smaller)}'s"
    if verdict in ("a_faster", "b_faster"):
        return f"{label(pair.a if verdict == 'a_faster' else pair.b)} {metric.wins}: {told} [{where}]."
    if verdict == "no_difference":
        margin = f"the noise floor of {floor}"
        if noise_floor is not None and noise_floor < ratios.EQUAL:
            margin = f"{_percent(ratios.EQUAL)} (noise floor {floor})"
        return f"No difference in {metric.words} larger than {margin}: {told} [{where}]."
    if more is not None:
        needs = f"needs about {more} more {'repeat' if more == 1 else 'repeats'}"
    else:
        needs = f"more than {ratios.MOST_REPEATS} repeats would be needed"
    return f"Cannot tell: {told}{f', noise floor {floor}' if floor else ''}; {needs} [{where}]."


def _times(value: float) -> str:
    if value > FARTHEST:
        return f"over {FARTHEST:,.0f}"
    if value < 1 / FARTHEST:
        return f"under {1 / FARTHEST:g}"
    return f"{value:.3g}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _percent(share: float) -> str:
    if share > FARTHEST / 100:
        return f"over {FARTHEST:,.0f}%"
    return f"{share * 100:.2g}%" if share < 1 else f"{share * 100:.0f}%"
