"""loadtest.measurement: from an engine's figures to the guard's. The measuring itself is in tests/integration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loadtest import rows as rows_module
from loadtest.engine_process import WindowResult
from loadtest.measurement import window_facts
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
