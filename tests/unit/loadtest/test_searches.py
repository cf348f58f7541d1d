"""loadtest.searches: max_qps on a session whose server is a formula."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from loadtest import search_rules as rules
from loadtest import searches
from loadtest.measurement import Measurement
from loadtest.schedules import Schedule

SLO_MS = 25.0


@dataclass
class Session:
    """The seam to loadtest.measure.Session: a server that bears `limit(seed, number of requests)` requests a second."""

    limit: Callable[[int, int], float]
    search_s: float = 1000.0
    flags: Callable[[int], list[str]] = lambda seed: []
    windows: list[tuple[int, float, int]] = field(default_factory=list)  # seed, rate, requests
    confirmations: list[tuple[int, float, int]] = field(default_factory=list)
    closed_rps: float = 400.0
    num_payloads: int = 8

    @property
    def plan(self) -> Any:
        options = SimpleNamespace(seed=1, percentile=99.0, engines=1, probes=None)
        return SimpleNamespace(
            options=options, slo_ms=SLO_MS, rate=None, num_requests=8000, duration_s=None, search_s=self.search_s
        )

    def prepare(self, scenario: str, rate: float) -> Measurement:
        return Measurement(target=None, scenario=scenario, value=rate, connections=1, samples=Path())  # type: ignore[arg-type]

    def window(self, scratch: Measurement, schedule: Schedule, window: int, limit: Any) -> tuple[Any, Any]:
        num = len(schedule.order)
        rate = (num - 1) / float(schedule.offsets_ns[-1] - schedule.offsets_ns[0]) * 1e9
        seed = 1 if np.array_equal(schedule.order, made(1, num)) else rules.confirmation_seed(1, 0)
        self.windows.append((seed, rate, num))
        late = rate > self.limit(seed, num)
        done = schedule.offsets_ns + (2 if late else 0.5) * SLO_MS * 1e6
        rows = SimpleNamespace(
            scheduled_ns=schedule.offsets_ns, done_ns=done, ok=np.ones(num, dtype=bool), correct=np.ones(num, dtype=np.int8)
        )
        return SimpleNamespace(flags=self.flags(seed)), rows

    def measured(self, measurement: Measurement, *, seed: int | None = None, one_piece: int | None = None) -> Measurement:
        measurement.reasons = [measurement.aborted] if measurement.aborted else []
        if seed is not None and one_piece is not None:
            self.confirmations.append((seed, measurement.value, one_piece))
            measurement.num_expected = one_piece
            good = one_piece if measurement.value <= self.limit(seed, one_piece) else 0
            measurement.figures = SimpleNamespace(num_good=good)  # type: ignore[assignment]
        return measurement


def made(seed: int, num: int) -> Any:
    from loadtest import schedules

    return schedules.make(seed=seed, scenario="max_qps", window=0, num_requests=num, num_payloads=8, rate=1.0).order


def searched(session: Session) -> tuple[Measurement, dict[str, Any]]:
    [measurement] = searches.max_qps(session)  # type: ignore[arg-type]
    assert measurement.search is not None
    return measurement, measurement.search


def test_a_rate_that_stands_is_the_result() -> None:
    session = Session(limit=lambda seed, num: 500.0)
    measurement, record = searched(session)
    assert measurement.reasons == []
    assert record["max_qps"] == record["found"] == measurement.value == record["bracket"][0]
    assert 480.0 < record["max_qps"] < 520.0  # the rate that was drawn is not the one that was asked for
    assert record["bracket"][1] / record["bracket"][0] <= rules.RESOLUTION
    assert [seed for seed, _, _ in session.confirmations] == [rules.confirmation_seed(1, 0)]
    assert {seed for seed, _, _ in session.windows} == {1}


def test_a_refuted_rate_is_searched_for_below_with_what_refuted_it() -> None:
    # It bears 300 in whatever is as long as a confirmation, and 500 in the short windows of the search.
    session = Session(limit=lambda seed, num: 500.0 if seed == 1 else 300.0)
    measurement, record = searched(session)
    assert measurement.reasons == []
    assert record["found"] > 480.0
    assert 280.0 < record["max_qps"] <= 300.0 and record["max_qps"] == measurement.value
    assert [c["refuted"] for c in record["confirmations"]] == [True] + [False] * (len(record["confirmations"]) - 1)
    assert record["bracket"][0] == record["max_qps"] < record["bracket"][1] < record["found"]
    refuted = session.confirmations[0]
    again = [(seed, num) for seed, _, num in session.windows if seed != 1]
    assert set(again) == {(refuted[0], refuted[2])}  # no shorter window says anything
    assert [point["below_refuted"] for point in record["points"]] == sorted(point["below_refuted"] for point in record["points"])


def test_nothing_below_a_refuted_rate_is_no_result() -> None:
    measurement, record = searched(Session(limit=lambda seed, num: 500.0 if seed == 1 else 0.0))
    assert (record["max_qps"], record["confirmed"]) == (None, False)
    [reason] = measurement.reasons
    assert reason.startswith("search: ") and "no lower rate was found that meets it" in reason
    assert measurement.value == record["found"]


def test_nothing_at_all_is_no_result() -> None:
    measurement, record = searched(Session(limit=lambda seed, num: 0.0))
    assert measurement.reasons == ["search: no rate was found that meets the SLO beside one that does not"]
    assert (record["found"], record["max_qps"], record["confirmations"]) == (None, None, [])


def test_a_search_whose_time_is_over_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    measurement, record = searched(Session(limit=lambda seed, num: 500.0, search_s=-1.0))
    assert measurement.reasons == ["search: it did not end within -1 s"]

    session = Session(limit=lambda seed, num: 500.0 if seed == 1 else 300.0, search_s=100.0)
    now = iter([0.0])  # and once something has refuted the rate, much later
    monkeypatch.setattr(searches.time, "monotonic", lambda: 1000.0 if session.confirmations else next(now, 1.0))
    measurement, record = searched(session)
    assert "search: it did not end within 100 s" in measurement.reasons
    assert record["max_qps"] is None and record["confirmations"][0]["refuted"]


def test_a_disturbed_window_is_not_forgotten() -> None:
    session = Session(limit=lambda seed, num: 500.0, flags=lambda seed: ["late"])
    measurement, record = searched(session)
    [reason] = measurement.reasons
    num = len(record["points"])
    assert reason.startswith(
        f"search: {num} of {num} rates stayed flagged, first {record['points'][0]['rate']:.1f} requests/s: late"
    )
    assert record["max_qps"] is None


def test_a_disturbed_confirmation_is_not_forgotten() -> None:
    def record(*confirmations: list[str]) -> dict[str, Any]:
        tried = [{"rate": 100.0 - at, "flags": flags} for at, flags in enumerate(confirmations)]
        return {"confirmed": True, "points": [{"rate": 100.0, "flags": []}], "confirmations": tried}

    assert searches.reasons(record([])) == searches.reasons(record([], [])) == []
    assert searches.reasons(record(["late"])) == []  # the measurement itself: the guard says it
    [reason] = searches.reasons(record(["late"], []))
    assert reason.startswith("search: 1 of 2 rates stayed flagged, first 100.0 requests/s: late")
