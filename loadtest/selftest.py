"""Measure the instrument: servers of known truth, what it says of them, and what stock Locust says of them.

Every case is measured as `python -m loadtest.run` would, by the same engine, guard and search; the truth is computed for
the very schedule that was sent (loadtest/truth/cases.py). Stock Locust (FastHttpUser, its own percentiles) runs beside it with
10 users at the same rate. Takes at most 4 minutes. Targets: p50, p99 and p99.9 within 2% or 0.1 ms, throughput within
1%, failures and wrong answers counted exactly, max_qps within 3%.

For instance:
  python -m loadtest.selftest --cases fixed,queue
Exit codes: 0 all on target and VALID, 3 otherwise, 2 a user's mistake, 1 a fault
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceoff import cli, cores, progress
from faceoff.errors import InvalidError

if TYPE_CHECKING:
    from faceoff.cores import CoreSplit
    from loadtest.measurement import Measurement
    from loadtest.truth.cases import Case, Truth
    from loadtest.truth.stock import Reported

LATENCY_FRACTION, LATENCY_MS = 0.02, 0.1
THROUGHPUT_FRACTION = 0.01
MAX_QPS_FRACTION = 0.03
STOCK_S, STOCK_SHORT_S = 6.0, 3.0
REPEATS = 10  # of a flagged window, while there is time
CASE_S = 18.0  # of a case in which flagged windows are repeated
BUDGET_S = 240.0
_STOCK_START_S = 6.0
_SEARCH_S = 100.0  # kept for max_qps
_CONFIRM_S = 20.0
NAMES = ("fixed", "stalls", "queue", "drops", "wrong", "closes", "max_qps")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The command; returns `rows`, `counts`, `max_qps`, `missed`. Raises InvalidError with the same beside it."""
    from loadtest.truth import cases

    names = cli.names(args.cases, "case", "CASES", NAMES) if args.cases else NAMES
    until = time.monotonic() + BUDGET_S
    found: dict[str, Any] = {"rows": [], "counts": [], "max_qps": None, "missed": [], "invalid": []}
    with tempfile.TemporaryDirectory(prefix="faceoff-selftest-") as folder:
        for case in cases.CASES:
            if case.behaviour.kind in names:
                with_stock = case.stock and not args.no_stock
                _one(case, Path(folder), args, found=found, until=until - _SEARCH_S, with_stock=with_stock)
        if "max_qps" in names:
            found["max_qps"] = _max_qps(cores.split(), Path(folder), args, found, until - _CONFIRM_S)
    _show(found)
    if found["missed"] or found["invalid"]:
        first = (found["missed"] + found["invalid"])[0]
        error = InvalidError(f"{len(found['missed'])} targets missed, {len(found['invalid'])} measurements INVALID: {first}")
        error.details = found
        raise error
    return found


def _one(case: Case, folder: Path, args: argparse.Namespace, *, found: dict[str, Any], until: float, with_stock: bool) -> None:
    split = cores.split()
    from loadtest import measure
    from loadtest.truth import cases
    from loadtest.truth.server import running

    with running(case.behaviour, split) as server:
        # A flagged window is repeated, unless the time for that is gone.
        repeat_until = min(until, time.monotonic() + CASE_S)
        planned = cases.plan(case, server, split, folder, seed=args.seed, repeats=args.repeats, repeat_until=repeat_until)
        [measurement] = measure.run(planned, folder)
        rows = measurement.rows
        true = cases.truth(case, rows, server.log())
    reported = None
    if with_stock and time.monotonic() < until - _STOCK_START_S:
        reported = _stock(case, split)
    _compare(case, measurement, true, reported, found)


def _stock(case: Case, split: CoreSplit) -> Reported:
    from loadtest.truth import cases, stock
    from loadtest.truth.behaviours import STRIKES
    from loadtest.truth.server import running

    duration_s = STOCK_SHORT_S if case.behaviour.kind in STRIKES else STOCK_S
    progress.say(f"{case.name}: stock Locust, {cases.STOCK_USERS} users, {case.rate:.0f} requests/s, {duration_s:.0f} s")
    with running(case.behaviour, split) as server:
        return stock.measure(
            server.http,
            split,
            users=cases.STOCK_USERS,
            rate=case.rate,
            duration_s=duration_s,
            timeout_s=cases.TIMEOUT_S,
        )


def _compare(case: Case, measurement: Measurement, true: Truth, reported: Reported | None, found: dict[str, Any]) -> None:
    from faceoff import stats

    place = f"{case.name} {case.scenario}"
    # A server that fails is rightly INVALID; what else is said against the measurement is the machine's.
    against = [reason for reason in measurement.reasons if "failed, limit" not in reason and "answers were wrong" not in reason]
    measured = stats.summary(measurement.rows.latency_ms)  # of what was answered, as the truth is: a figure ranks failures last
    for name, truth_ms in true.latency_ms.items():
        measured_ms = measured[name]
        row = {
            "server": case.name,
            "scenario": case.scenario,
            "percentile": name,
            "truth_ms": truth_ms,
            "faceoff_ms": measured_ms,
        }
        met = truth_ms is not None and measured_ms is not None and abs(measured_ms - truth_ms) <= _limit_ms(truth_ms)
        late_ms = (true.as_sent_ms[name] or math.nan) - (truth_ms or math.nan)
        extra = {"met": met, "valid": not against, "sent_late_ms": late_ms if math.isfinite(late_ms) else None}
        found["rows"].append({**row, "locust_ms": reported.latency_ms[name] if reported else None, **extra})
        if not met:
            found["missed"].append(_miss(place, name, truth_ms, measured_ms, late_ms, valid=not against))
    num_bad = measurement.total("num_errors") + measurement.total("num_wrong")
    counts = {
        "server": case.name,
        "scenario": case.scenario,
        "num_requests": measurement.total("num_requests"),
        "bad_truth": true.num_struck,
        "bad_faceoff": num_bad,
        "bad_locust": reported.num_failures if reported else None,
        "num_locust": reported.num_requests if reported else None,
        "rps_truth": true.throughput_rps,
        "rps_faceoff": measurement.throughput_rps,
        "server_late_p99_ms": true.lateness_p99_ms,
        "valid": not measurement.reasons,
        "invalid_reasons": measurement.reasons,
    }
    found["counts"].append(counts)
    if num_bad != true.num_struck:
        found["missed"].append(f"{place}: {num_bad} failed or wrong, truth {true.num_struck}")
    if abs(measurement.throughput_rps / true.throughput_rps - 1) > THROUGHPUT_FRACTION:
        found["missed"].append(f"{place}: {measurement.throughput_rps:.1f} requests/s, truth {true.throughput_rps:.1f}")
    found["invalid"] += [f"{place}: {reason}" for reason in against]
    if true.num_struck and len(against) == len(measurement.reasons):
        found["missed"].append(f"{place}: VALID although {true.num_struck} requests failed or were wrong")


def _limit_ms(truth_ms: float) -> float:
    return max(LATENCY_MS, LATENCY_FRACTION * truth_ms)


def _miss(place: str, name: str, truth_ms: float | None, measured_ms: float | None, late_ms: float, *, valid: bool) -> str:
    """What was missed, by how much, and whether the generator's own lateness explains it."""
    text = f"{place} {name}: {measured_ms} ms, truth {truth_ms} ms"
    if truth_ms is None or measured_ms is None:
        return text
    error_ms = measured_ms - truth_ms
    text = f"{place} {name}: {measured_ms:.3f} ms, truth {truth_ms:.3f} ms, error {error_ms:+.3f} ms"
    text += f", limit {_limit_ms(truth_ms):.3f} ms; {'VALID' if valid else 'INVALID'}"
    if abs(error_ms - late_ms) <= _limit_ms(truth_ms):
        text += f", {late_ms:+.3f} ms of it were sent late"
        text += " (the guard bounds that at p99)" if valid else ""
    return text


def _max_qps(split: CoreSplit, folder: Path, args: argparse.Namespace, found: dict[str, Any], until: float) -> dict[str, Any]:
    from loadtest import measure
    from loadtest.truth import cases
    from loadtest.truth.server import running

    case = cases.SEARCH
    with running(case.behaviour, split) as server:
        search_s = max(5.0, until - time.monotonic())
        planned = cases.plan(
            case, server, split, folder, seed=args.seed, repeats=args.repeats, repeat_until=until - _CONFIRM_S, search_s=search_s
        )
        [measurement] = measure.run(planned, folder)
        late_ms = cases.usual_lateness_ms(server.log())
    truth, long_run = cases.max_qps_truth(case, seed=args.seed, late_ms=late_ms)
    record = measurement.search
    assert record is not None
    value = record["confirmations"][-1]["rate"] if record["confirmed"] else None
    if value is None or truth is None or abs(value / truth - 1) > MAX_QPS_FRACTION:
        found["missed"].append(f"max_qps: {value}, truth {truth}")
    found["invalid"] += [f"max_qps: {reason}" for reason in measurement.reasons]
    return {
        "truth": truth,
        "faceoff": value,
        "truth_of_a_long_run": long_run,
        "server_late_ms": late_ms,
        "valid": not measurement.reasons,
        "num_points": len(record["points"]),
        "num_flagged": sum(bool(point["flags"]) for point in record["points"]),
    }


def _show(found: dict[str, Any]) -> None:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    def error(value: float | None, truth: float | None) -> str:
        return "-" if value is None or not truth else f"{value - truth:+.3f} ({100 * (value / truth - 1):+.1f}%)"

    lines: list[tuple[object, ...]] = [
        (
            *(row["server"], row["scenario"], row["percentile"], number(row["truth_ms"]), number(row["faceoff_ms"])),
            *(error(row["faceoff_ms"], row["truth_ms"]), number(row["sent_late_ms"]), "met" if row["met"] else "missed"),
            *("VALID" if row["valid"] else "INVALID", number(row["locust_ms"]), error(row["locust_ms"], row["truth_ms"])),
        )
        for row in found["rows"]
    ]
    figures = ("truth ms", "faceoff ms", "error", "sent late ms", "target", "verdict", "stock Locust ms", "error")
    columns = ("server", "scenario", "", *figures)
    progress.table("the instrument against the truth", columns, lines)
    counted: list[tuple[object, ...]] = [
        (
            *(c["server"], c["scenario"], c["num_requests"], c["bad_truth"], c["bad_faceoff"]),
            *("-" if c["bad_locust"] is None else f"{c['bad_locust']} of {c['num_locust']}",),
            *(f"{c['rps_truth']:.1f}", f"{c['rps_faceoff']:.1f}", "VALID" if c["valid"] else "INVALID"),
        )
        for c in found["counts"]
    ]
    headings = ("server", "scenario", "requests", "failed or wrong", "faceoff", "stock Locust", "req/s", "faceoff", "verdict")
    progress.table("counts", headings, counted)
    if found["max_qps"]:
        m = found["max_qps"]
        progress.say(
            f"max_qps: {number(m['faceoff'])} req/s, truth of the same schedules {number(m['truth'])}, "
            f"of a million requests {number(m['truth_of_a_long_run'])}"
        )
    for kind in ("missed", "invalid"):
        for text in found[kind]:
            progress.say(f"{kind}: {text}")


def main(argv: list[str] | None = None) -> int:
    """`python -m loadtest.selftest`."""
    parser = cli.Parser(prog="python -m loadtest.selftest", description=__doc__)
    parser.add_argument("--cases", default="", help=f"comma list of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="of the schedules (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=REPEATS, help="of a flagged window, while there is time (default: %(default)s)"
    )
    parser.add_argument("--no-stock", action="store_true", help="without stock Locust beside it")
    return cli.run(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
