"""A server's own metrics in one definition: requests so far, errors, time queued, time computed.

Every server is read from the page at `Endpoint.metrics_url` (Prometheus text). What a server does not measure is
None, never 0. Totals only ever grow, so the means of a stretch of time are the difference of two readings:

    before = server.metrics(endpoint)
    ...
    server.metrics(endpoint).since(before).queue_ms

| field     | TorchServe (of the model and version)             | TensorFlow Serving's API (of the model, all versions) |
|-----------|---------------------------------------------------|--------------------------------------------------------|
| requests  | ts_inference_requests_total                       | :tensorflow:serving:request_count                      |
| errors    | Requests4XX + Requests5XX (of the server, REST)   | request_count with another status than OK              |
| queue     | ts_queue_latency_microseconds                     | batching_session:queuing_latency (of the server)       |
| compute   | ts_inference_latency_microseconds less the queue: | runtime_latency, else core:graph_run_time_usecs        |
|           | front end to worker and back, handler included    | (of the server): the run of the graph                  |
TorchServe 0.12 counts its gRPC requests and does not time them (seen here): after gRPC alone queue and compute are None, after
both protocols the means are too small by the share of gRPC.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from faceoff.errors import FaceoffError

_LINE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\S+)?$")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, kw_only=True)
class ServerMetrics:
    """One reading. `num_queued` and `num_computed` are what the two totals are sums over."""

    requests: float | None = None
    errors: float | None = None
    queue_total_ms: float | None = None
    num_queued: float | None = None
    compute_total_ms: float | None = None
    num_computed: float | None = None

    @property
    def queue_ms(self) -> float | None:
        """Mean time a request waited in the server; None where nothing was timed."""
        if self.compute_total_ms == 0:
            return None
        return _mean(self.queue_total_ms, self.num_queued)

    @property
    def compute_ms(self) -> float | None:
        """Mean time of one computation (of a batch, where the server counts batches); None where nothing was timed."""
        return _mean(self.compute_total_ms or None, self.num_computed)

    def since(self, earlier: ServerMetrics) -> ServerMetrics:
        """What happened between two readings of one server."""
        mine, theirs = asdict(self), asdict(earlier)
        return ServerMetrics(**{name: _less(value, theirs[name]) for name, value in mine.items()})

    def to_dict(self) -> dict[str, float | None]:
        """The four figures of the definition."""
        return {"requests": self.requests, "errors": self.errors, "queue_ms": self.queue_ms, "compute_ms": self.compute_ms}


@dataclass(frozen=True)
class Page:
    """A page of Prometheus text: (name, labels, value) of every sample."""

    samples: tuple[tuple[str, Mapping[str, str], float], ...]

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of the samples called `name` whose labels are these; None when there is none."""
        found = [value for _, value in self._matching(name, labels)]
        return sum(found) if found else None

    def total_unless(self, name: str, label: str, value: str, **labels: str) -> float | None:
        """As `total`, of the samples whose `label` is not `value`; 0 when only those are there."""
        matching = list(self._matching(name, labels))
        return sum(number for found, number in matching if found.get(label) != value) if matching else None

    def labels(self, name: str) -> Mapping[str, str]:
        """The labels of the one sample called `name`. Raises FaceoffError where there is none."""
        for found, have, _ in self.samples:
            if found == name:
                return have
        raise FaceoffError(f"found no {name} on the metrics page: expected one, as of a server of this version")

    def _matching(self, name: str, labels: Mapping[str, str]) -> Iterator[tuple[Mapping[str, str], float]]:
        for found, have, value in self.samples:
            if found == name and all(have.get(key) == want for key, want in labels.items()):
                yield have, value


def parse(text: str) -> Page:
    """Prometheus text to a page; lines that are no samples, and NaN, are left out."""
    samples = []
    for line in text.splitlines():
        match = _LINE.match(line.strip()) if line and not line.startswith("#") else None
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        if not math.isnan(value):
            labels = {name: re.sub(r"\\(.)", _unescape, text) for name, text in _LABEL.findall(match[2] or "")}
            samples.append((match[1], labels, value))
    return Page(tuple(samples))


def read(url: str, timeout_s: float = 5.0) -> Page:
    """The page at `url`. Raises FaceoffError."""
    import urllib3

    try:
        with urllib3.PoolManager(retries=False, timeout=timeout_s) as pool:
            response = pool.request("GET", url)
    except urllib3.exceptions.HTTPError as error:
        raise FaceoffError(f"no metrics from {url}: {error}") from error
    if response.status != 200:
        raise FaceoffError(f"no metrics from {url}: HTTP {response.status}")
    return parse(response.data.decode(errors="replace"))


def torchserve(page: Page, model: str, version: int) -> ServerMetrics:
    """TorchServe's page in the common definition."""
    of = {"model_name": model, "model_version": str(version)}
    requests = page.total("ts_inference_requests_total", **of)
    queue = page.total("ts_queue_latency_microseconds", **of)
    inference = page.total("ts_inference_latency_microseconds", **of)
    bad = [value for name in ("Requests4XX", "Requests5XX") for value in (page.total(name), page.total(f"{name}_total"))]
    errors = [value for value in bad if value is not None]
    if page.total("Requests2XX") is not None or page.total("Requests2XX_total") is not None:
        errors.append(0.0)  # the counters appear with the first request of their kind
    return ServerMetrics(
        requests=requests,
        errors=sum(errors) if errors else None,
        queue_total_ms=None if queue is None else queue / 1e3,
        num_queued=requests,
        compute_total_ms=None if inference is None or queue is None else (inference - queue) / 1e3,
        num_computed=requests,
    )


def tfserving(page: Page, model: str) -> ServerMetrics:
    """TensorFlow Serving's page in the common definition."""
    serving, core = ":tensorflow:serving:", ":tensorflow:core:"
    count = f"{serving}request_count"
    compute, runs = (page.total(f"{serving}runtime_latency_{part}", model_name=model) for part in ("sum", "count"))
    if not runs:
        compute, runs = page.total(f"{core}graph_run_time_usecs"), page.total(f"{core}graph_runs")
    queue, queued = (page.total(f"{serving}batching_session:queuing_latency_{part}") for part in ("sum", "count"))
    return ServerMetrics(
        requests=page.total(count, model_name=model),
        errors=page.total_unless(count, "status", "OK", model_name=model),
        queue_total_ms=None if queue is None else queue / 1e3,
        num_queued=queued,
        compute_total_ms=None if compute is None else compute / 1e3,
        num_computed=runs,
    )


def _mean(total: float | None, count: float | None) -> float | None:
    return None if total is None or not count else total / count


def _less(now: float | None, before: float | None) -> float | None:
    return now if now is None or before is None else now - before


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
