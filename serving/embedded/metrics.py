"""What the monitoring page shows: TensorFlow Serving's names, each really measured; what is not measured is absent.

Prometheus text as that server prints it (`:` at the start of names; histograms of microseconds in buckets of
10 * 1.8^n). Not thread-safe: used from the event loop only.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.embedded.errors import Code

_SERVING, _CORE, _SAVED_MODEL = ":tensorflow:serving:", ":tensorflow:core:", ":tensorflow:cc:saved_model:"
SETTINGS_METRIC = ":faceoff:settings"  # ours: TensorFlow Serving has no way to ask for the settings in force
_MICROS = tuple(10 * 1.8**n for n in range(33))
_COUNTS = tuple(float(2**n) for n in range(15))

Labels = tuple[str, ...]


@dataclass(kw_only=True)
class Counter:
    """A sum by label values."""

    name: str
    labels: Labels
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count."""
        self.values[labels] = self.values.get(labels, 0) + amount

    def merge(self, other: Counter) -> None:
        """Add another process's."""
        for labels, value in other.values.items():
            self.add(*labels, amount=value)

    def lines(self) -> list[str]:
        """The page's lines."""
        found = [f"{self.name}{_braces(self.labels, key)} {_number(value)}" for key, value in self.values.items()]
        return [f"# TYPE {self.name} counter", *found] if found else []


@dataclass(kw_only=True)
class Histogram:
    """Counts in buckets, their sum and number, by label values."""

    name: str
    labels: Labels
    bounds: tuple[float, ...] = _MICROS
    values: dict[Labels, tuple[list[int], list[float]]] = field(default_factory=dict)

    def add(self, *labels: str, value: float) -> None:
        """Observe."""
        found = self.values.get(labels)
        if found is None:
            found = self.values[labels] = ([0] * (len(self.bounds) + 1), [0.0])
        found[0][bisect.bisect_right(self.bounds, value)] += 1
        found[1][0] += value

    def merge(self, other: Histogram) -> None:
        """Add another process's, of the same bounds."""
        for labels, (counts, total) in other.values.items():
            mine, sums = self.values.setdefault(labels, ([0] * (len(self.bounds) + 1), [0.0]))
            mine[:] = [one + more for one, more in zip(mine, counts, strict=True)]
            sums[0] += total[0]

    def lines(self) -> list[str]:
        """The page's lines."""
        out = [f"# TYPE {self.name} histogram"] if self.values else []
        for key, (counts, total) in self.values.items():
            seen = 0
            for bound, count in zip([*map(_number, self.bounds), "+Inf"], counts, strict=True):
                seen += count
                out.append(f"{self.name}_bucket{_braces((*self.labels, 'le'), (*key, bound))} {seen}")
            out.append(f"{self.name}_sum{_braces(self.labels, key)} {_number(total[0])}")
            out.append(f"{self.name}_count{_braces(self.labels, key)} {seen}")
        return out


class Metrics:
    """The process's metrics, or by `merge` those of several."""

    def __init__(self) -> None:
        self.request_count = Counter(name=_SERVING + "request_count", labels=("model_name", "status"))
        self.request_latency = Histogram(name=_SERVING + "request_latency", labels=("model_name", "API", "entrypoint"))
        self.runtime_latency = Histogram(name=_SERVING + "runtime_latency", labels=("model_name", "API", "runtime"))
        self.example_total = Counter(name=_SERVING + "request_example_count_total", labels=("model",))
        self.example_counts = Histogram(name=_SERVING + "request_example_counts", labels=("model",), bounds=_COUNTS)
        self.queuing_latency = Histogram(name=_SERVING + "batching_session:queuing_latency", labels=("thread_pool_name",))
        self.wrapped_runs = Counter(name=_SERVING + "batching_session:wrapped_run_count", labels=("thread_pool_name",))
        self.graph_runs = Counter(name=_CORE + "graph_runs", labels=())
        self.graph_run_time = Counter(name=_CORE + "graph_run_time_usecs", labels=())
        self.graph_run_times = Histogram(name=_CORE + "graph_run_time_usecs_histogram", labels=())
        self.load_attempts = Counter(name=_SAVED_MODEL + "load_attempt_count", labels=("model_path", "status"))
        self.load_latency = Counter(name=_SAVED_MODEL + "load_latency", labels=("model_path",))

    def tell_settings(self, settings: Mapping[str, object]) -> None:
        """The settings in force, as the labels of a sample that is 1."""
        self.settings = Counter(name=SETTINGS_METRIC, labels=tuple(settings))
        self.settings.add(*(str(value) for value in settings.values()))

    def request(self, model: str, api: str, entrypoint: str, code: Code, seconds: float) -> None:
        """One finished request."""
        self.request_count.add(model, code.name)
        self.request_latency.add(model, api, entrypoint, value=seconds * 1e6)

    def ran(self, seconds: float, queued: list[float]) -> None:
        """One run of a graph that took `seconds`, for requests that had waited `queued` seconds each."""
        micros = seconds * 1e6
        self.graph_runs.add()
        self.graph_run_time.add(amount=micros)
        self.graph_run_times.add(value=micros)
        self.wrapped_runs.add("")
        for waited in queued:
            self.queuing_latency.add("", value=waited * 1e6)

    def examples(self, model: str, count: int) -> None:
        """The number of examples of a classify, regress or multi-inference request."""
        self.example_total.add(model, amount=count)
        self.example_counts.add(model, value=count)

    def loaded(self, path: str, succeeded: bool, seconds: float) -> None:
        """One attempt to load a version folder."""
        self.load_attempts.add(path, "success" if succeeded else "fail")
        if succeeded:
            self.load_latency.add(path, amount=seconds * 1e6)

    def merge(self, other: Metrics) -> None:
        """Add what another process measured."""
        for name, metric in vars(other).items():
            if name in vars(self):
                getattr(self, name).merge(metric)
            else:
                setattr(self, name, metric)

    def page(self) -> bytes:
        """The monitoring page."""
        lines = [line for metric in vars(self).values() for line in metric.lines()]
        return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _braces(names: Labels, values: Labels) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)]
    return "{" + ",".join(pairs) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"
