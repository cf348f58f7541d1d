"""Stock Locust, as people write it: FastHttpUser, a paced wait time, Locust's own figures. Run by loadtest.truth.stock.

The server's port, the rate and the number of users come from the environment.
"""

from __future__ import annotations

import csv
import itertools
import os
import time
from pathlib import Path

from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

_numbers = itertools.count()
_RATE = float(os.environ.get("FACEOFF_STOCK_RATE", "1"))  # of all users together; 0: no pause
_USERS = int(os.environ.get("FACEOFF_STOCK_USERS", "1"))
_BODY = "x" * int(os.environ.get("FACEOFF_STOCK_BYTES", "0"))
_CPU_FILE = os.environ.get("FACEOFF_STOCK_CPU_FILE")
_CSV_FILE = os.environ.get("FACEOFF_STOCK_CSV_FILE")
_cpu_s: list[float] = []


@events.test_start.add_listener  # type: ignore[untyped-decorator]
@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def note_cpu(**_: object) -> None:
    """CPU seconds between the start and the end of the test, for whoever compares costs."""
    _cpu_s.append(time.process_time())
    if _CPU_FILE:
        Path(_CPU_FILE).write_text(str(_cpu_s[-1] - _cpu_s[0]), encoding="ascii")


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def write_csv(environment: Environment, **_: object) -> None:
    """Locust's own table of requests at the very end; what `--csv` leaves lacks up to its last second."""
    if _CSV_FILE:
        with Path(_CSV_FILE).open("w", newline="") as file:
            StatsCSV(environment, PERCENTILES_TO_REPORT).requests_csv(csv.writer(file))


class Stock(FastHttpUser):
    """One request after the other."""

    host = f"http://127.0.0.1:{os.environ.get('FACEOFF_STOCK_PORT', '1')}"
    network_timeout = connection_timeout = float(os.environ.get("FACEOFF_STOCK_TIMEOUT_S", "10"))
    if _RATE > 0:
        wait_time = constant_throughput(_RATE / _USERS)

    @task
    def ask(self) -> None:
        """Ask and check the answer."""
        number = next(_numbers) % 1024
        with self.client.post("/", data=_BODY or str(number), name="truth", catch_response=True) as response:
            if response.status_code == 200 and not _BODY and response.content != b"ok %d" % number:
                response.failure("wrong")
