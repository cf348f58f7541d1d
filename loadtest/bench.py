"""What the generator costs, beside stock Locust and (where it is installed) wrk, against one null server, in one run.

CPU microseconds a request at a fixed rate and in a closed loop, for a body of 3 KB, as ratios to the engine; what the engine
spends on watching the clock for the moment to send is a column of its own. The send error of the engine at 1,000 requests a
second. wrk has no rate: it is compared in the closed loop only. A minute.

For instance:
  python -m loadtest.bench --seconds 5
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceoff import cli, cores, processes, progress
from faceoff.errors import FaceoffError

if TYPE_CHECKING:
    from faceoff.cores import CoreSplit
    from loadtest.truth.server import Server

BODY_BYTES = 3072
CONNECTIONS = 8
RATE = 1000.0
STOCK_RATE = 500.0  # what ten users of stock Locust still reach
STOCK_USERS = 10


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The command; returns `rows`, one a generator, and `ratios` of CPU a request to the engine's HTTP."""
    from loadtest.truth import stock
    from loadtest.truth.behaviours import Behaviour
    from loadtest.truth.server import running

    split = cores.split()
    rows: list[dict[str, Any]] = []
    with running(Behaviour(kind="null"), split) as server:
        for protocol in ("rest", "grpc"):
            for rate in (None, RATE):
                rows.append(_engine(server, split, protocol, rate, args.seconds))
        for rate in (0.0, STOCK_RATE):
            reported = stock.measure(
                server.http, split, users=STOCK_USERS, rate=rate, duration_s=args.seconds, body_bytes=BODY_BYTES
            )
            rows.append(
                {
                    "generator": "stock Locust (FastHttpUser)",
                    "protocol": "rest",
                    "load": f"{rate:.0f} requests/s" if rate else f"closed, {STOCK_USERS} users",
                    "rps": reported.rps,
                    "cpu_us": reported.cpu_us,
                    "send_error_p99_ms": None,
                }
            )
        if (wrk := shutil.which("wrk")) is not None:
            rows.append(_wrk(wrk, server, split, args.seconds))
    base = rows[0]["cpu_us"]
    for row in rows:
        row["ratio"] = row["cpu_us"] / base if row["cpu_us"] and base else None
    lines = [
        (
            *(row["generator"], row["protocol"], row["load"], f"{row['rps']:.0f}", f"{row['cpu_us']:.1f}"),
            *(f"{row['ratio']:.2f}", f"{row['spin_us']:.1f}" if row.get("spin_us") else "-"),
            "-" if row["send_error_p99_ms"] is None else f"{row['send_error_p99_ms']:.3f}",
        )
        for row in rows
    ]
    columns = ("generator", "protocol", "load", "requests/s", "CPU us a request", "ratio", "watching us", "send error p99 ms")
    progress.table(f"what a request costs, {BODY_BYTES} bytes, null server", columns, lines)
    if wrk is None:
        progress.say("wrk is not installed and was left out")
    return {"body_bytes": BODY_BYTES, "rows": rows}


def _engine(server: Server, split: CoreSplit, protocol: str, rate: float | None, seconds: float) -> dict[str, Any]:
    from faceoff import stats
    from loadtest import schedules
    from loadtest.engine_process import Destination, EngineProcess

    to = Destination(
        protocol=protocol,
        host="127.0.0.1",
        port=server.http if protocol == "rest" else server.grpc,
        path="/null.Server/Answer",
        content_type="application/octet-stream",
        timeout_s=10.0,
        payloads=(bytes(BODY_BYTES),),
    )
    num = round((rate or 8000.0) * seconds)
    scenario = "closed" if rate is None else "server"
    with EngineProcess(to, split) as engine:
        for window, size in enumerate((min(num, 500), num)):
            schedule = schedules.make(seed=1, scenario=scenario, window=window, num_requests=size, num_payloads=1, rate=rate)
            limit_s = schedule.duration_s if rate else 60.0
            result = engine.window(schedule, connections=CONNECTIONS if rate is None else 64, deadline_s=limit_s)
    columns = result.columns
    if (columns["answer"] < 0).any():
        raise FaceoffError("requests to the null server failed")
    late_ms = (columns["sent"] - columns["scheduled"] - columns["wait"]) / 1e6
    sent = len(columns["sent"])
    return {
        "generator": "faceoff engine",
        "protocol": protocol,
        "load": f"closed, {CONNECTIONS} connections" if rate is None else f"{rate:.0f} requests/s",
        "rps": sent / (float(columns["done"].max() - columns["scheduled"].min()) / 1e9),
        "cpu_us": (result.cpu_ns - result.spun_ns) / sent / 1000,
        "spin_us": result.spun_ns / sent / 1000,
        "send_error_p99_ms": None if rate is None else stats.percentile(late_ms, 0.99),
    }


def _wrk(wrk: str, server: Server, split: CoreSplit, seconds: float) -> dict[str, Any]:
    """One closed run of wrk on the generator's core."""
    import resource

    def prepare() -> None:
        processes.die_with_parent()
        os.sched_setaffinity(0, split.generator)

    with tempfile.TemporaryDirectory(prefix="faceoff-wrk-") as folder:
        script = Path(folder) / "post.lua"
        script.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {BODY_BYTES})\n', encoding="ascii")
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "-s", str(script), f"http://127.0.0.1:{server.http}/"],
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
            preexec_fn=prepare,
        )
        after, span_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
    num = next((int(line.split()[0]) for line in done.stdout.splitlines() if " requests in " in line), 0)
    if done.returncode or not num:
        raise FaceoffError(f"wrk failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "generator": "wrk",
        "protocol": "rest",
        "load": f"closed, {CONNECTIONS} connections",
        "rps": num / span_s,
        "cpu_us": 1e6 * cpu_s / num,
        "send_error_p99_ms": None,
    }


def main(argv: list[str] | None = None) -> int:
    """`python -m loadtest.bench`."""
    parser = cli.Parser(prog="python -m loadtest.bench", description=__doc__)
    parser.add_argument("--seconds", type=cli.positive_int, default=5, help="of each run (default: %(default)s)")
    return cli.run(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
