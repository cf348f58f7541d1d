"""Measure the generator's own capacity on this machine, against a server of ours that does nothing.

A null server (HTTP and gRPC, on the servers' cores) answers at once; the engine sends in a closed loop. For each protocol and
body size the median of three loops counts. Written to artifacts/calibration.json with the environment; every load test
quotes it and is INVALID when it asks for more than half of it. Takes about 20 seconds. `--missing` leaves a calibration of this
machine as it is.

For instance:
  python -m loadtest.calibrate
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from faceoff import cli, cores, progress
from faceoff.errors import FaceoffError

if TYPE_CHECKING:
    from faceoff.cores import CoreSplit
    from faceoff.store import Store
    from loadtest.calibration import Calibration, Capacity

SIZES = (64, 3072, 65_536, 1_048_576)  # bytes of a body
LOOPS = 3
CONNECTIONS = 8
REQUESTS = 6000  # of a loop with small bodies
BYTES = 256 << 20  # of a loop at most
WARM_UP = 500


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The command; returns where the calibration is and what it found. Raises FaceoffError when requests failed."""
    from faceoff import environment
    from loadtest import calibration
    from loadtest.calibration import Calibration

    store = cli.store(args)
    known = calibration.read(store) if args.missing else None
    if known is not None and known.elsewhere is None:
        progress.say(f"the generator was calibrated on this machine before ({known.created})")
        return _result(store, known)
    split = cores.split()
    capacities = measure(split, requests=args.requests)
    found = Calibration(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        capacities=tuple(capacities),
        environment=environment.record(),
        cores=split.to_dict(),
    )
    calibration.write(store, found)
    lines = [(c.protocol, c.body_bytes, f"{c.rps:.0f}", f"{c.cpu_us:.1f}") for c in capacities]
    progress.table("the generator against a null server", ("protocol", "body bytes", "requests/s", "CPU us a request"), lines)
    if split.shared:
        progress.say("one core only: generator and null server shared it, and no measurement here can be VALID")
    return _result(store, found)


def _result(store: Store, found: Calibration) -> dict[str, Any]:
    from loadtest import calibration

    capacities = {f"{c.protocol}-{c.body_bytes}": round(c.rps, 1) for c in found.capacities}
    return {"calibration": str(store.artifacts / calibration.NAME), "capacity_rps": capacities}


def measure(split: CoreSplit, *, requests: int = REQUESTS, sizes: tuple[int, ...] = SIZES) -> list[Capacity]:
    """The capacity of each protocol at each size."""
    from loadtest.truth.behaviours import Behaviour
    from loadtest.truth.server import running

    found = []
    with running(Behaviour(kind="null"), split) as server:
        for protocol, port in (("rest", server.http), ("grpc", server.grpc)):
            for size in sizes:
                found.append(_capacity(protocol, port, size, split, requests))
                progress.say(f"{protocol}, {size} bytes: {found[-1].rps:.0f} requests/s, {found[-1].cpu_us:.1f} us of CPU each")
    return found


def _capacity(protocol: str, port: int, size: int, split: CoreSplit, requests: int) -> Capacity:
    from loadtest import schedules
    from loadtest.calibration import Capacity
    from loadtest.engine_process import Destination, EngineProcess

    to = Destination(
        protocol=protocol,
        host="127.0.0.1",
        port=port,
        path="/null.Server/Answer",
        content_type="application/octet-stream",
        timeout_s=10.0,
        payloads=(bytes(size),),
    )
    num = max(100, min(requests, BYTES // size))
    loops = []
    with EngineProcess(to, split) as engine:
        for loop in range(1 + LOOPS):
            schedule = schedules.make(
                seed=1,
                scenario="closed",
                window=loop,
                num_requests=num if loop else min(num, WARM_UP),
                num_payloads=1,
                rate=None,
            )
            result = engine.window(schedule, connections=CONNECTIONS, deadline_s=60.0)
            columns = result.columns
            if (columns["answer"] < 0).any():
                raise FaceoffError(f"{int((columns['answer'] < 0).sum())} of {num} requests to the null server failed")
            if loop:
                span_s = float(columns["done"].max() - columns["scheduled"].min()) / 1e9
                loops.append((num / span_s, result.cpu_ns / num / 1000))
    rps, cpu_us = sorted(loops)[LOOPS // 2]
    return Capacity(protocol=protocol, body_bytes=size, connections=CONNECTIONS, rps=rps, cpu_us=cpu_us)


def main(argv: list[str] | None = None) -> int:
    """`python -m loadtest.calibrate`."""
    parser = cli.Parser(prog="python -m loadtest.calibrate", description=__doc__)
    parser.add_argument("--requests", type=cli.positive_int, default=REQUESTS, help="of each loop (default: %(default)s)")
    parser.add_argument("--missing", action="store_true", help="only where there is none of this machine")
    parser.add_store()
    return cli.run(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
