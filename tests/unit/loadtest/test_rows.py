"""loadtest.rows."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from loadtest import rows as rows_module
from loadtest.rows import Rows

MS = 1_000_000


def make(**columns: list[int]) -> Rows:
    num = len(next(iter(columns.values())))
    defaults = {
        "scheduled_ns": [1000 * MS * (i + 1) for i in range(num)],
        "wait_ns": [0] * num,
        "status": [200] * num,
        "correct": [1] * num,
        "num_rows": [1] * num,
        "bytes_out": [10] * num,
        "bytes_in": [20] * num,
        "window": [0] * num,
        "payload": list(range(num)),
    }
    defaults["sent_ns"] = defaults["scheduled_ns"]
    defaults["done_ns"] = [s + 2 * MS for s in defaults["scheduled_ns"]]
    return Rows(**{name: np.array(values, dtype=np.int64) for name, values in {**defaults, **columns}.items()})


def test_latency_counts_from_the_scheduled_moment_of_successful_rows() -> None:
    rows = make(
        scheduled_ns=[100 * MS, 200 * MS, 300 * MS, 400 * MS],
        sent_ns=[104 * MS, 200 * MS, 300 * MS, 400 * MS],
        done_ns=[110 * MS, 201 * MS, 302 * MS, 403 * MS],
        wait_ns=[3 * MS, 0, 0, 0],
        status=[200, 0, 503, -2],
        correct=[1, 0, -1, -1],
    )
    assert rows.latency_ms.tolist() == [10.0, 1.0]
    assert rows.send_error_ms.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert (rows.num_errors, rows.num_wrong) == (2, 1)
    assert rows.span_s == 0.303


def test_nothing() -> None:
    rows = rows_module.concatenate([])
    assert (len(rows), rows.num_errors, rows.num_wrong, rows.span_s) == (0, 0, 0, 0.0)
    assert len(rows.latency_ms) == 0


def test_parquet_has_the_agreed_schema(tmp_path: Path) -> None:
    rows_module.write(tmp_path / "samples" / "a.parquet", make(status=[200, 14, -1], correct=[1, 0, -1]))
    table = pq.read_table(tmp_path / "samples" / "a.parquet")
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        **dict.fromkeys(("scheduled_ns", "sent_ns", "done_ns", "wait_ns", "bytes_out", "bytes_in"), "int64"),
        "status": "int16",
        "correct": "bool",
        "num_rows": "int32",
        "window": "int32",
        "payload": "int32",
    }
    assert table["correct"].to_pylist() == [True, False, None]
    assert table["status"].to_pylist() == [200, 14, -1]


def test_a_day_of_windows_fits(tmp_path: Path) -> None:
    rows_module.write(tmp_path / "a.parquet", make(window=[40_000, 200_000]))
    assert rows_module.read(tmp_path / "a.parquet").window.tolist() == [40_000, 200_000]


def test_an_empty_file_has_the_columns(tmp_path: Path) -> None:
    rows_module.write(tmp_path / "a.parquet", rows_module.empty())
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0
