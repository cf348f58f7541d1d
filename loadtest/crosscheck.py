"""Measure one server with Faceoff and with MLCommons LoadGen, one after the other, and hold the figures against each other.

LoadGen is an independent load generator in C++ (MLPerf's own). It is not part of the installation:
  .venv/bin/pip install mlcommons-loadgen==6.0.17

Servers of known truth, so that the two meet the same behaviour although each draws a schedule of its own: `fixed` in
single_stream and in server (Poisson), `stalls` in server, where the p99 is the stalls'. Agreement is within 5% at p50 and p99.
LoadGen's client here is Python over plain sockets, and what that costs is inside its figures. About two minutes.

For instance:
  python -m loadtest.crosscheck --requests 1000
Exit codes: 0 all agree and are VALID, 3 otherwise, 2 a user's mistake (LoadGen is not installed), 1 a fault
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceoff import cli, cores, processes, progress
from faceoff.errors import FaceoffError, InvalidError, UsageError

if TYPE_CHECKING:
    from faceoff.cores import CoreSplit
    from loadtest.truth.cases import Case
    from loadtest.truth.server import Server

FRACTION = 0.05
REQUESTS = 6000  # enough that the p99 of stalls differs by chance by less than 2%
RATE = 200.0
INSTALL = "pip install mlcommons-loadgen==6.0.17"
_LIMIT_S = 60.0  # beyond what the requests take


def installed() -> bool:
    """Whether LoadGen can be imported."""
    return importlib.util.find_spec("mlperf_loadgen") is not None


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The command; returns `rows`. Raises UsageError without LoadGen, InvalidError where the two do not agree."""
    from loadtest.truth import cases
    from loadtest.truth.behaviours import Behaviour

    if not installed():
        raise UsageError(f"MLCommons LoadGen is not installed: run .venv/bin/{INSTALL}")
    stalls = Behaviour(kind="stalls", service_ms=10.0, stall_ms=200.0, period_ms=2000.0)
    single = max(200, args.requests // 6)  # one at a time takes longer, and has less to vary
    chosen = [
        cases.Case(behaviour=cases.FIXED, scenario="single_stream", num_requests=single),
        cases.Case(behaviour=cases.FIXED, rate=RATE, num_requests=args.requests),
        cases.Case(behaviour=stalls, rate=RATE, num_requests=args.requests),
    ]
    split, rows, against = cores.split(), [], []
    with tempfile.TemporaryDirectory(prefix="faceoff-crosscheck-") as folder:
        for number, case in enumerate(chosen):
            found, reasons = _one(case, split, Path(folder) / str(number), args.seed)
            rows += found
            against += [f"{case.name} {case.scenario}: {reason}" for reason in reasons]
    lines = [
        (
            *(row[name] for name in ("server", "scenario", "percentile")),
            *(f"{row[name]:.3f}" for name in ("faceoff_ms", "loadgen_ms")),
            f"{100 * row['difference']:+.1f}%",
        )
        for row in rows
    ]
    columns = ("server", "scenario", "", "faceoff ms", "LoadGen ms", "difference")
    progress.table("Faceoff beside MLCommons LoadGen", columns, lines)
    for text in against:
        progress.say(f"INVALID: {text}")
    apart = [row for row in rows if abs(row["difference"]) > FRACTION]
    if apart or against:
        where = [f"{row['server']} {row['scenario']} {row['percentile']}" for row in apart]
        said = f"apart by more than {100 * FRACTION:.0f}%: {', '.join(where)}" if apart else against[0]
        error = InvalidError(f"{len(apart)} of {len(rows)} figures do not agree, {len(against)} reasons against: {said}")
        error.details = {"rows": rows, "invalid": against}
        raise error
    return {"rows": rows}


def _one(case: Case, split: CoreSplit, folder: Path, seed: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of one case, and what the guard says against our side of them."""
    from loadtest import measure
    from loadtest.truth import cases
    from loadtest.truth.server import running

    folder.mkdir()
    with running(case.behaviour, split) as server:
        [measurement] = measure.run(cases.plan(case, server, split, folder, seed=seed, repeats=1), folder)
        theirs = _loadgen(case, server, split, folder)
    assert measurement.figures is not None
    rows = []
    for name, loadgen_ms in theirs.items():
        ours_ms = measurement.figures.latency_ms[name]
        if ours_ms is None:
            raise FaceoffError(f"{case.name}: no request was answered")
        row = {"server": case.name, "scenario": case.scenario, "percentile": name, "faceoff_ms": ours_ms}
        rows.append({**row, "loadgen_ms": loadgen_ms, "difference": ours_ms / loadgen_ms - 1})
    return rows, measurement.reasons


def _loadgen(case: Case, server: Server, split: CoreSplit, folder: Path) -> dict[str, float]:
    from loadtest.truth import cases, loadgen

    progress.say(f"{case.name} {case.scenario}: LoadGen, {case.num_requests} requests")
    job = {
        "port": server.http,
        "scenario": case.scenario,
        "rate": case.rate,
        "num_requests": case.num_requests,
        "num_bodies": cases.NUM_BODIES,
        "cores": list(split.generator),
        "folder": str(folder),
    }
    expected_s = case.num_requests * (1 / case.rate if case.rate else 0.05)
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.truth.loadgen", json.dumps(job)],
        capture_output=True,
        text=True,
        env=processes.environment(),
        timeout=expected_s + _LIMIT_S,
        check=False,
        preexec_fn=processes.die_with_parent,
    )
    try:
        return loadgen.figures(folder)
    except (OSError, KeyError, ValueError) as error:
        raise FaceoffError(f"LoadGen left no figures (exit code {done.returncode}, {error}): {done.stderr[-1000:]}") from error


def main(argv: list[str] | None = None) -> int:
    """`python -m loadtest.crosscheck`."""
    parser = cli.Parser(prog="python -m loadtest.crosscheck", description=__doc__)
    parser.add_argument("--requests", type=cli.positive_int, default=REQUESTS, help="of a Poisson load (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of our schedules (default: %(default)s)")
    return cli.run(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
