"""Raw rows, one a request: what every figure is computed from, in memory and as Parquet.

Times are CLOCK_MONOTONIC in ns. `status` is the HTTP status or the gRPC code, -1 a connection that failed, -2 a
timeout. `correct` is null where there was no answer to judge. `bytes_out` and `bytes_in` are the body or the message,
without the headers of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Columns of equal length. `correct` is 1, 0 or -1 (nothing to judge)."""

    scheduled_ns: Ints
    sent_ns: Ints
    done_ns: Ints
    wait_ns: Ints
    status: Ints
    correct: Ints
    num_rows: Ints
    bytes_out: Ints
    bytes_in: Ints
    window: Ints
    payload: Ints

    def __len__(self) -> int:
        return len(self.scheduled_ns)

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Answered with success, rightly or wrongly."""
        return np.asarray((self.status == 0) | ((self.status >= 200) & (self.status < 300)), dtype=np.bool_)

    @property
    def latency_ms(self) -> npt.NDArray[np.float64]:
        """From the scheduled moment, of the successful rows."""
        return (self.done_ns - self.scheduled_ns)[self.ok] / 1e6

    @property
    def send_error_ms(self) -> npt.NDArray[np.float64]:
        """How much later than scheduled the generator sent, beyond the wait for a free connection."""
        return (self.sent_ns - self.scheduled_ns - self.wait_ns) / 1e6

    @property
    def num_errors(self) -> int:
        """Rows without a successful answer."""
        return int(len(self) - np.count_nonzero(self.ok))

    @property
    def num_wrong(self) -> int:
        """Successful answers that are not the expected ones."""
        return int(np.count_nonzero(self.correct == 0))

    @property
    def span_s(self) -> float:
        """From the first scheduled moment to the last answer."""
        return float(self.done_ns.max() - self.scheduled_ns.min()) / 1e9 if len(self) else 0.0


def empty() -> Rows:
    """No rows."""
    return Rows(**{field.name: np.zeros(0, dtype=np.int64) for field in fields(Rows)})


def concatenate(parts: list[Rows]) -> Rows:
    """All rows, in order."""
    if not parts:
        return empty()
    return Rows(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Rows)})


def in_order(parts: list[Rows]) -> Rows:
    """The rows of several engines in the order of their scheduled moments; those of one as they are."""
    if len(parts) == 1:
        return parts[0]
    rows = concatenate(parts)
    order = np.argsort(rows.scheduled_ns, kind="stable")
    return Rows(**{field.name: getattr(rows, field.name)[order] for field in fields(Rows)})


class File:
    """Rows that stream to one Parquet file, a row group for each `add`. A context manager."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.num_rows = 0
        self._writer = pq.ParquetWriter(path, _table(empty()).schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, rows: Rows) -> None:
        """Append."""
        if len(rows):
            self._writer.write_table(_table(rows))
            self.num_rows += len(rows)


def write(path: Path, rows: Rows) -> None:
    """Write one Parquet file."""
    with File(path) as file:
        file.add(rows)


def read(path: Path) -> Rows:
    """What was written."""
    import pyarrow.parquet as pq

    return from_table(pq.read_table(path))


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """What figures are computed from, one value a row, in order."""

    latency_ms: npt.NDArray[np.float64]  # of every row, also of failed ones
    send_error_ms: npt.NDArray[np.float64]
    ok: npt.NDArray[np.bool_]
    not_wrong: npt.NDArray[np.bool_]


def read_latencies(path: Path) -> Latencies:
    """The latencies of a file, a row group at a time: 18 bytes a row."""
    import pyarrow.parquet as pq

    parts: list[tuple[npt.NDArray[Any], ...]] = []
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = from_table(file.read_row_group(group))
            every = (rows.done_ns - rows.scheduled_ns) / 1e6
            parts.append((every, rows.send_error_ms, rows.ok, rows.correct != 0))
    none = np.zeros(0)
    columns = [np.concatenate(some) for some in zip(*parts, strict=True)] or [none, none, none != 0, none != 0]
    return Latencies(latency_ms=columns[0], send_error_ms=columns[1], ok=columns[2], not_wrong=columns[3])


def from_table(table: Any) -> Rows:
    """The rows of a table of such a file."""
    columns = {}
    for field in fields(Rows):
        column = table[field.name]
        if field.name == "correct":
            column = column.cast("int8").fill_null(-1)
        columns[field.name] = column.to_numpy().astype(np.int64, copy=False)
    return Rows(**columns)


def _table(rows: Rows) -> Any:
    import pyarrow as pa

    types: dict[str, Any] = {"status": pa.int16(), "num_rows": pa.int32(), "window": pa.int32(), "payload": pa.int32()}
    columns = {}
    for field in fields(Rows):
        values = getattr(rows, field.name)
        if field.name == "correct":
            columns[field.name] = pa.array(values == 1, type=pa.bool_(), mask=values < 0)
        else:
            columns[field.name] = pa.array(values, type=types.get(field.name, pa.int64()))
    return pa.table(columns)
