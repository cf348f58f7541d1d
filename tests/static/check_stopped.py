"""`python -m tests.static.check_stopped results/demo`: nothing of a run's servers or load is left. Exit code 1 names what is.

Looks for the processes and ports in the run's own records/endpoints.json, and for programs of ours that run in this
checkout: another checkout on the same machine is none of its business.
"""

from __future__ import annotations

import errno
import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = re.compile(r"org\.pytorch\.serve\.ModelServer|serving\.embedded|serving\.rotate|loadtest\.engine")


def left(run: Path) -> list[str]:
    """A line for each process that still runs and each port that is still held."""
    record = run / "records" / "endpoints.json"
    endpoints = json.loads(record.read_text(encoding="utf-8"))
    measured = record.stat().st_mtime
    found = {}
    for process in psutil.process_iter():
        try:
            recorded = any(process.pid in endpoint["pids"] for endpoint in endpoints) and process.create_time() <= measured
            if (recorded or _of_this_checkout(process)) and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = f"pid {process.pid} runs: {' '.join(process.cmdline())}"
        except psutil.Error:  # it has ended, or it is another user's
            continue
    ports = sorted({port for endpoint in endpoints for port in _ports(endpoint)})
    return [*found.values(), *(f"port {port} is held" for port in ports if _held(port))]


def _of_this_checkout(process: psutil.Process) -> bool:
    return bool(PROGRAMS.search(" ".join(process.cmdline()))) and Path(process.cwd()).is_relative_to(ROOT)


def _ports(endpoint: dict[str, Any]) -> list[int]:
    """Of every address that the endpoint names."""
    addresses = [endpoint[name] or "" for name in ("rest_url", "grpc_target", "metrics_url", "management_url")]
    return [int(port) for address in addresses for port in re.findall(r":(\d+)", address)]


def _held(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is in TIME_WAIT is held by nobody
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def main(arguments: list[str]) -> int:
    """The command line; see the module."""
    found = left(Path(arguments[0]))
    for line in found:
        print(line, file=sys.stderr)  # noqa: T201  for people
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
