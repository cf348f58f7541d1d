"""The measurements themselves: warm-up, windows, repeats of flagged windows; one after the other, never side by side.

Runs inside Locust (loadtest/locustfile.py), which is told of every accepted row through `on_window`. Rows go to disk window
by window, so that memory does not grow with the length of a run and an engine that dies leaves what it measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from faceoff import progress
from loadtest import measurement as measurement_module
from loadtest import rows as rows_module
from loadtest import scenarios, schedules, searches, watch
from loadtest.answers import Judge
from loadtest.calm import Calm
from loadtest.checks import MAX_REQUESTS, MAX_WINDOW_S, too_few
from loadtest.engine_group import EngineGroup
from loadtest.engine_process import Columns, Destination, EngineError, WindowResult
from loadtest.guard import invalid_reasons
from loadtest.measurement import Attempt, Measurement
from loadtest.plan import Plan
from loadtest.rows import Rows
from loadtest.scenarios import BY_NAME
from loadtest.schedules import Schedule
from loadtest.targets import Target

CLOSED_LIMIT_S = 120.0  # how long a closed window may keep sending
WARM_UP_LIMIT_S = 120.0
OPEN_WARM_UP = 100  # requests at the measured rate before the first open window
OFFLINE_LIMIT_S = 600.0

OnWindow = Callable[[Measurement, Attempt, Rows], None]


def _ignore(measurement: Measurement, attempt: Attempt, rows: Rows) -> None:
    """Nobody listens."""


def run(plan: Plan, directory: Path, on_window: OnWindow = _ignore) -> Generator[Measurement, None, None]:
    """Measure every target in its scenarios; rows go to `directory`/samples. Raises EngineError when an engine dies."""
    calm = Calm(generator=plan.cores.generator, servers=plan.cores.servers, budget_s=plan.options.rest)
    for target in plan.targets:
        with closing(Session(plan, target, directory, calm, on_window).run()) as measurements:
            yield from measurements


class Session:
    """One group of engines on one target: its connections and the answers already judged are kept from scenario to scenario."""

    def __init__(self, plan: Plan, target: Target, directory: Path, calm: Calm, on_window: OnWindow = _ignore) -> None:
        self.plan, self.target, self._calm = plan, target, calm
        self._directory, self._on_window = directory, on_window
        self._judge = Judge(target.problem, target.decode)
        self._pool = target.pool()
        self._sizes = np.array([len(body) for body in self._pool.payloads], dtype=np.int64)
        self.closed_rps = 0.0

    def run(self) -> Generator[Measurement, None, None]:
        """Warm up, then every scenario."""
        plan, target = self.plan, self.target
        to = Destination(
            protocol=target.protocol,
            host=target.host,
            port=target.port,
            path=target.path,
            content_type=target.content_type,
            timeout_s=plan.profile.timeout_s,
            payloads=self._pool.payloads,
            judged=target.problem is not None,
            keep_alive=bool(plan.options.keep_alive),
        )
        with EngineGroup(to, plan.cores, plan.options.engines) as self._engines:
            alive = self._warm_up(plan.profile.warmup_requests, plan.connections, None)
            for scenario in target.scenarios:
                if not alive:
                    measurement = self.prepare(scenario, 0.0)
                    measurement.aborted = "no request of the warm-up succeeded; nothing was measured"
                    yield self.measured(measurement)
                elif BY_NAME[scenario].searches:
                    yield from (searches.max_qps if scenario == "max_qps" else searches.sweep)(self)
                else:
                    measurement = self.measured(self.prepare(scenario, self.rate(scenario)))
                    if scenario == "closed":
                        self.closed_rps = measurement.throughput_rps
                    yield measurement

    @property
    def num_payloads(self) -> int:
        """How many distinct requests there are."""
        return len(self._sizes)

    def rate(self, scenario: str) -> float:
        """The requests a second of a scenario that has a rate: as asked for (of this worker), or a fraction of closed's."""
        if scenario == "trace":
            assert self.plan.trace_ns is not None
            return len(self.plan.trace_ns) / max(1e-9, float(self.plan.trace_ns[-1]) / 1e9) / self.plan.share[1]
        if self.plan.rate is not None:
            return self.plan.rate / self.plan.share[1]
        return self.plan.profile.rate_fraction * self.closed_rps

    def prepare(self, scenario: str, rate: float, *, label: str = "", connections: int | None = None) -> Measurement:
        """A measurement of `scenario` that has not begun. `connections` makes it a closed loop of so many."""
        plan = self.plan
        kind = "connections" if connections is not None else scenarios.load_kind(scenario)
        if connections is None:
            closed = kind == "connections"
            connections = plan.connections if closed else plan.open_connections
            if scenario in ("single_stream", "multi_stream"):
                connections = 1
        found = Measurement(
            target=self.target,
            scenario=scenario,
            value=float(connections) if kind == "connections" else rate,
            connections=connections,
            samples=Path(),
            slo_ms=plan.slo_ms,
            label=label,
            load_kind=kind,
            encode_us=self._pool.encode_us,
            body_bytes=float(self._sizes.mean()),
        )
        found.samples = self._directory / "samples" / f"{found.id}.parquet"
        return found

    def measured(self, measurement: Measurement, *, seed: int | None = None, one_piece: int | None = None) -> Measurement:
        """Run its windows (or one of `one_piece` requests), write its rows and decide whether it is VALID."""
        with rows_module.File(measurement.samples) as file:
            if measurement.aborted is None:
                measurement.aborted = self._cannot(measurement)
            if measurement.aborted is None:
                self._measure(measurement, file, seed=seed, one_piece=one_piece)
        self._close(measurement)
        return measurement

    def _cannot(self, measurement: Measurement) -> str | None:
        """Why it cannot even start."""
        plan = self.plan
        rate = measurement.value * plan.share[1]
        if measurement.scenario == "trace":
            assert plan.trace_ns is not None
            num_requests = len(plan.trace_ns)
        else:
            num_requests = self._num_requests(rate) if measurement.load_kind == "rate" else plan.num_requests
        if (why := too_few(num_requests, plan.options.engines * plan.share[1])) is not None:
            return why
        if measurement.load_kind != "rate":
            return None
        if not rate > 0:
            return "the closed loop reached no throughput that a rate could be a fraction of"
        scenario = BY_NAME[measurement.scenario]
        if scenario.windows and plan.profile.requests_per_window / rate > MAX_WINDOW_S:
            return f"at {rate:.3g} requests/s a window would outlast {MAX_WINDOW_S:.0f} s"
        if not scenario.windows and measurement.scenario != "trace" and num_requests > MAX_REQUESTS:
            return f"{num_requests} requests are more than the {MAX_REQUESTS} of one schedule"
        return None

    def _num_requests(self, rate: float) -> int:
        plan = self.plan
        return plan.num_requests if plan.duration_s is None else max(1, round(rate * plan.duration_s))

    def _schedules(self, measurement: Measurement, seed: int | None, one_piece: int | None) -> Iterator[Schedule]:
        """The schedules of its windows, each drawn when the one before is done."""
        plan, scenario = self.plan, BY_NAME[measurement.scenario]
        mine, num_workers = plan.share
        rate = measurement.value * num_workers if measurement.load_kind == "rate" else None
        size = plan.profile.requests_per_window
        if rate is None and scenario.windows:
            sizes: Iterator[int] = self._closed_sizes(measurement, size)
        elif measurement.scenario == "trace":
            assert plan.trace_ns is not None
            sizes = iter([len(plan.trace_ns)])
        elif one_piece is not None:
            sizes = iter([one_piece])
        elif not scenario.windows:
            sizes = iter([self._num_requests(rate) if rate is not None else plan.num_requests])
        else:
            assert rate is not None
            total = self._num_requests(rate)
            num = max(1, round(total / size))
            sizes = iter([(total * (at + 1)) // num - (total * at) // num for at in range(num)])
        for window, num_requests in enumerate(sizes):
            whole = schedules.make(
                seed=plan.options.seed if seed is None else seed,
                scenario=measurement.scenario,
                window=window,
                num_requests=num_requests,
                num_payloads=len(self._sizes),
                rate=rate,
                trace_ns=plan.trace_ns,
            )
            yield schedules.shares(whole, num_workers)[mine]

    def _closed_sizes(self, measurement: Measurement, size: int) -> Iterator[int]:
        """A closed loop lasts as long as it lasts: with a duration, windows follow until it is over."""
        profile, duration_s = self.plan.profile, self.plan.duration_s
        num = 0
        while num < profile.windows if duration_s is None else measurement.span_s < duration_s:
            yield size
            num += 1

    def _measure(self, measurement: Measurement, file: rows_module.File, *, seed: int | None, one_piece: int | None) -> None:
        if measurement.load_kind == "rate":
            self._warm_up(OPEN_WARM_UP, measurement.connections, measurement.value)
        for window, schedule in enumerate(self._schedules(measurement, seed, one_piece)):
            measurement.num_expected += len(schedule.order)
            attempt, rows = self.window(measurement, schedule, window, file)
            file.add(rows)
            self._on_window(measurement, attempt, rows)
            if attempt.num_errors == attempt.num_requests:
                measurement.aborted = f"no request of window {window} succeeded; the measurement ended there"
                return

    def window(
        self,
        measurement: Measurement,
        schedule: Schedule,
        window: int,
        file: rows_module.File | None = None,
        limit: tuple[int, int] | None = None,
    ) -> tuple[Attempt, Rows]:
        """Run one window until the guard lets it stand or the repeats are used up."""
        limit_s = CLOSED_LIMIT_S if schedule.offsets_ns is None else schedule.duration_s
        if measurement.scenario == "offline":
            limit_s = OFFLINE_LIMIT_S
        last = self.plan.profile.max_window_repeats
        for repeat in range(1 + last):
            self._calm.wait()
            try:
                with watch.window(self.target.endpoint, self.plan.cores.generator) as use:
                    results = self._engines.window(schedule, connections=measurement.connections, deadline_s=limit_s, limit=limit)
            except EngineError:
                if file is not None:
                    file.add(self._rows(self._engines.rescued(), window))
                raise
            parts = self._judged(results, window)
            slo_ms = measurement.slo_ms if measurement.load_kind == "rate" else None
            attempt = measurement_module.attempt(
                measurement.scenario, results, parts, slo_ms, window=window, repeat=repeat, use=use
            )
            measurement.attempts.append(attempt)
            final = repeat == last or time.monotonic() > self.plan.repeat_until
            self._say(measurement, attempt, final=final)
            if not attempt.flags or attempt.num_errors == attempt.num_requests or final:
                break
        return attempt, rows_module.in_order(parts)

    def _say(self, measurement: Measurement, attempt: Attempt, *, final: bool) -> None:
        """One line a window. Not a bar: what redraws itself during a window takes a core from it."""
        text = f"{measurement.id} window {attempt.window + 1}: {attempt.num_requests} requests, {attempt.throughput_rps:.0f}/s"
        text += ", no answer" if attempt.p50_ms is None else f", p50 {attempt.p50_ms:.2f} ms, p99 {attempt.p99_ms:.2f} ms"
        text += f", {attempt.num_errors} errors, {attempt.num_wrong} wrong"
        if attempt.flags:
            text += f"; flagged{'' if final else ', to be repeated'}: {'; '.join(attempt.flags)}"
        else:
            text += "; guard ok"
        progress.say(text)

    def _warm_up(self, num_requests: int, connections: int, rate: float | None) -> bool:
        """Send requests whose rows are thrown away; whether any succeeded."""
        if num_requests < 1:
            return True
        schedule = schedules.warm_up(
            seed=self.plan.options.seed, num_requests=num_requests, num_payloads=len(self._sizes), rate=rate
        )
        limit_s = WARM_UP_LIMIT_S if rate is None else schedule.duration_s
        results = self._engines.window(schedule, connections=connections, deadline_s=limit_s)
        return any(rows.ok.any() for rows in self._judged(results, -1))

    def _judged(self, results: Sequence[WindowResult], window: int) -> list[Rows]:
        """The rows of each engine; answers that are new are judged first."""
        for result in results:
            for number, payload, body in result.answers:
                self._judge.add(number, payload, body)
        return [self._rows(result.columns, window) for result in results]

    def _rows(self, columns: Columns, window: int) -> Rows:
        ones = np.ones(len(columns["sent"]), dtype=np.int64)
        return Rows(
            **{f"{name}_ns": columns[name] for name in ("scheduled", "sent", "done", "wait")},
            **{name: columns[name] for name in ("status", "payload", "bytes_in")},
            correct=self._judge.correct(columns["answer"]),
            num_rows=self.target.num_rows * ones,
            bytes_out=self._sizes[columns["payload"]],
            window=window * ones,
        )

    def _close(self, measurement: Measurement) -> None:
        judge = self._judge
        measurement.first_wrong = judge.first_problem
        measurement.decode_us, measurement.judging_us = judge.decode_us, judge.judging_us_per_request
        measurement.figures = measurement_module.figures(measurement.samples, measurement.scenario, measurement.slo_ms)
        if self.plan.calibration is not None:
            one = self.plan.calibration.capacity_rps(self.target.protocol, measurement.body_bytes)
            num_cores = min(self.plan.options.engines, len(self.plan.cores.generator))
            measurement.capacity_rps = None if one is None else num_cores * one
        measurement.reasons = invalid_reasons(measurement_module.judged_facts(self.plan, measurement))
