"""The raw rows of one measurement: one parquet file, one row a request.

Latency counts from the scheduled time, so a stall is charged to every request that it held up. Failed requests
have no latency: they are never averaged in, and rank behind every other in a percentile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faceoff.errors import CorruptError
from report.percentiles import Floats


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Columns of equal length; `at_s` is the scheduled time since the first row, `window` None where there is none."""

    at_s: Floats
    latency_ms: Floats
    succeeded: NDArray[np.bool_]
    window: NDArray[np.int64] | None

    @property
    def num_rows(self) -> int:
        """Requests, failed ones included."""
        return len(self.at_s)

    @property
    def num_failed(self) -> int:
        """Requests without an answer."""
        return int(np.count_nonzero(~self.succeeded))

    @cached_property
    def ordered_ms(self) -> Floats:
        """The latencies that count, ascending."""
        return np.sort(self.latency_ms[self.succeeded])

    @cached_property
    def window_starts_s(self) -> list[float]:
        """When each window began, ascending; [] without windows."""
        if self.window is None:
            return []
        return sorted(float(self.at_s[self.window == index].min()) for index in np.unique(self.window))


def read(path: Path, *, command: str) -> Samples:
    """Read a file of raw rows. Raises CorruptError for one that is not what DESIGN.md describes."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        scheduled, done = (table.column(name).to_numpy().astype(np.int64) for name in ("scheduled_ns", "done_ns"))
        status = table.column("status").to_numpy()
    except (OSError, KeyError, ValueError, pyarrow.ArrowException) as error:
        raise CorruptError(f"{path} does not hold raw samples ({error}); run again: {command}") from error
    # As the load test counts: an HTTP 2xx or gRPC OK. A wrong answer has a latency too; it is counted apart.
    succeeded = (status == 0) | ((status >= 200) & (status < 300))
    window = table.column("window").to_numpy().astype(np.int64) if "window" in table.column_names else None
    start = int(scheduled.min()) if len(scheduled) else 0
    return Samples(
        at_s=(scheduled - start) / 1e9,
        latency_ms=(done - scheduled) / 1e6,
        succeeded=succeeded,
        window=window,
    )
