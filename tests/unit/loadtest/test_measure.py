"""loadtest.measurement: from an engine's figures to the guard's. The measuring itself is in tests/integration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest import rows as rows_module
from loadtest import watch
from loadtest.engine_process import WindowResult
from loadtest.measurement import Measurement, attempt, figures, window_facts
from loadtest.rows import Rows

MS = 1_000_000


def result(**changes: Any) -> WindowResult:
    figures: dict[str, Any] = {
        "columns": {},
        "answers": [],
        "wall_ns": 2000 * MS,
        "cpu_ns": 500 * MS,
        "run_queue_ns": 20 * MS,
        "steal_ticks": 3,
        "total_ticks": 400,
        "loop_lag_p99_ns": None,
    }
    return WindowResult(**{**figures, **changes})


def some_rows(num: int) -> Rows:
    index = np.arange(num, dtype=np.int64)
    zeros = np.zeros(num, dtype=np.int64)
    scheduled = index * 10 * MS
    return Rows(
        scheduled_ns=scheduled,
        wait_ns=zeros + MS,
        sent_ns=scheduled + MS + index * 10_000,
        done_ns=scheduled + 5 * MS,
        status=zeros + 200,
        correct=zeros + 1,
        num_rows=zeros + 1,
        bytes_out=zeros,
        bytes_in=zeros,
        window=zeros,
        payload=zeros,
    )


def test_an_open_window_is_as_late_as_its_send_error_without_the_wait() -> None:
    facts = window_facts("server", result(), some_rows(100), 100.0)
    assert facts.late_p99_ms == pytest.approx(0.98)
    assert facts.p50_ms == 5.0
    assert (facts.cpu_percent, facts.run_queue_percent, facts.steal_percent) == (25.0, 1.0, 0.75)
    assert facts.slo_ms == 100.0


def test_a_closed_window_is_as_late_as_the_engines_loop() -> None:
    assert window_facts("closed", result(loop_lag_p99_ns=300_000), some_rows(100), None).late_p99_ms == 0.3


def test_a_window_without_rows() -> None:
    facts = window_facts("server", result(total_ticks=0, steal_ticks=0), rows_module.empty(), 100.0)
    assert (facts.late_p99_ms, facts.p50_ms, facts.steal_percent) == (0.0, None, 0.0)


def test_what_was_offered_is_the_rate_of_the_moments_that_were_drawn() -> None:
    rows = some_rows(100)  # 10 ms apart
    found = Measurement(target=None, scenario="server", value=120.0, connections=1, samples=Path())  # type: ignore[arg-type]
    assert found.offered_rps is None
    for window in range(2):
        use = watch.Use()
        found.attempts.append(attempt("server", [result()], [rows], 100.0, window=window, repeat=0, use=use))
    assert found.offered_rps == pytest.approx(100.0)
    found.load_kind = "connections"
    assert found.offered_rps is None


def test_failed_rows_rank_behind_all_others(tmp_path: Path) -> None:
    rows = some_rows(10_000)
    rows.status[:10] = -2  # 0.1%
    rows_module.write(tmp_path / "x.parquet", rows)
    found = figures(tmp_path / "x.parquet", "server", 100.0)
    assert found.latency_ms["p99"] == 5.0
    assert found.latency_ms["p99_9"] == 5.0 and "p99_9" not in found.ci95_ms  # the largest that was answered: no upper end
    rows.status[:11] = -2
    rows_module.write(tmp_path / "x.parquet", rows)
    found = figures(tmp_path / "x.parquet", "server", 100.0)
    assert (found.latency_ms["p99"], found.latency_ms["p99_9"], found.latency_ms["max"]) == (5.0, None, 5.0)
