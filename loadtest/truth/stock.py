"""Runs stock Locust (a real `locust`, FastHttpUser) against a server and reads what it reports."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from faceoff import processes
from faceoff.cores import CoreSplit
from faceoff.errors import FaceoffError

PERCENTILES = {"p50": "50%", "p99": "99%", "p99_9": "99.9%"}  # Locust's own names


@dataclass(frozen=True, kw_only=True)
class Reported:
    """Locust's own figures. `latency_ms` is rounded by Locust; `cpu_us` is CPU time a request, from test_start to test_stop."""

    latency_ms: dict[str, float]
    num_requests: int
    num_failures: int
    rps: float
    cpu_us: float | None


def measure(
    port: int, split: CoreSplit, *, users: int, rate: float, duration_s: float, timeout_s: float = 10.0, body_bytes: int = 0
) -> Reported:
    """One headless run on the generator's core. `rate` 0: users do not pause. Raises FaceoffError when it reports nothing."""
    variables = {
        "FACEOFF_STOCK_PORT": str(port),
        "FACEOFF_STOCK_RATE": str(rate),
        "FACEOFF_STOCK_USERS": str(users),
        "FACEOFF_STOCK_TIMEOUT_S": str(timeout_s),
        "FACEOFF_STOCK_BYTES": str(body_bytes),
    }
    with tempfile.TemporaryDirectory(prefix="faceoff-stock-") as folder:
        path = Path(folder) / "requests.csv"
        variables["FACEOFF_STOCK_CPU_FILE"] = str(Path(folder) / "cpu")
        variables["FACEOFF_STOCK_CSV_FILE"] = str(path)
        _run(variables, Path(folder), split, users, duration_s)
        if not path.exists():
            raise FaceoffError(f"stock Locust left no figures:\n{(Path(folder) / 'log').read_text()[-2000:]}")
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["Name"] == "truth"]
        cpu_s = float((Path(folder) / "cpu").read_text(encoding="ascii"))
    if not rows:
        raise FaceoffError("stock Locust sent no request")
    [row] = rows
    num = int(row["Request Count"])
    return Reported(
        latency_ms={name: float(row[column]) for name, column in PERCENTILES.items()},
        num_requests=num,
        num_failures=int(row["Failure Count"]),
        rps=float(row["Requests/s"]),
        cpu_us=1e6 * cpu_s / num if num else None,
    )


def _run(variables: dict[str, str], folder: Path, split: CoreSplit, users: int, duration_s: float) -> None:
    locustfile = Path(__file__).with_name("stock_locustfile.py")
    arguments = [f"--locustfile={locustfile}", "--headless", "--only-summary", f"--users={users}", f"--spawn-rate={users}"]

    def prepare() -> None:
        processes.die_with_parent()
        os.sched_setaffinity(0, split.generator)

    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "locust", *arguments, f"--run-time={duration_s:.0f}s"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=processes.environment(variables),
            preexec_fn=prepare,  # noqa: PLW1509  no thread of ours runs
        )
        try:
            process.wait(duration_s + 60)
        except subprocess.TimeoutExpired as error:
            raise FaceoffError("stock Locust did not end") from error
        finally:
            if process.poll() is None:
                processes.stop_tree(process.pid)
                process.wait()
