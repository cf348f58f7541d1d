"""MLCommons LoadGen against a server of known truth: its own schedule, clock and percentiles, over plain sockets.

Run by loadtest.crosscheck in a process of its own, with a JSON job as its argument: `port`, `scenario` (single_stream or
server), `rate`, `num_requests`, `num_bodies`, `cores`, `folder` (for LoadGen's logs). Nothing of the engine is used, so that
what the two agree on does not come from a common part.

LoadGen counts from the scheduled moment in Server and from the moment of issue in SingleStream. Its figures are read from
mlperf_log_detail.txt.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

from faceoff import helper

CONNECTIONS = 64
PERCENTILES = {"p50": "result_50.00_percentile_latency_ns", "p99": "result_99.00_percentile_latency_ns"}
_DETAIL = "mlperf_log_detail.txt"
_MARK = ":::MLLOG "


class Client:
    """Plain sockets: a query is written from LoadGen's own thread, answers are read in another."""

    def __init__(self, loadgen: Any, port: int, num_bodies: int) -> None:
        self._loadgen = loadgen
        bodies = [b"%d" % number for number in range(num_bodies)]
        self._requests = [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(b), b) for b in bodies]
        self._answers = [b"\r\n\r\nok " + body for body in bodies]
        self._epoll = select.epoll()
        self._socks = {}
        self._free: deque[int] = deque()
        self._pending: dict[int, tuple[int, int]] = {}  # of a socket: LoadGen's id of the query, the number of its body
        for _ in range(CONNECTIONS):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socks[sock.fileno()] = sock
            self._free.append(sock.fileno())
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        threading.Thread(target=self._read, daemon=True).start()

    def issue(self, samples: list[Any]) -> None:
        """LoadGen's callback."""
        for sample in samples:
            fd = self._free.pop()  # an IndexError ends the process: this many connections are not enough
            self._pending[fd] = sample.id, sample.index
            self._socks[fd].sendall(self._requests[sample.index])

    def _read(self) -> None:
        try:
            while True:
                for fd, _ in self._epoll.poll():
                    data = self._socks[fd].recv(4096)
                    query, number = self._pending.pop(fd)
                    if not data.endswith(self._answers[number]):
                        raise ValueError(f"query {number} was answered {data!r}")
                    self._free.append(fd)
                    self._loadgen.QuerySamplesComplete([self._loadgen.QuerySampleResponse(query, 0, 0)])
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)  # LoadGen would wait for ever


def settings(loadgen: Any, job: dict[str, Any]) -> Any:
    """LoadGen's settings for a job: exactly so many queries."""
    found = loadgen.TestSettings()
    found.mode = loadgen.TestMode.PerformanceOnly
    found.min_query_count = found.max_query_count = job["num_requests"]
    found.min_duration_ms = 0
    if job["scenario"] == "server":
        found.scenario = loadgen.TestScenario.Server
        found.server_target_qps = job["rate"]
        found.server_target_latency_ns = 1_000_000_000
    else:
        found.scenario = loadgen.TestScenario.SingleStream
    return found


def figures(folder: Path) -> dict[str, float]:
    """p50 and p99 in ms as LoadGen's log in `folder` says them. Raises KeyError where it does not."""
    lines = (folder / _DETAIL).read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line.removeprefix(_MARK)) for line in lines if line.startswith(_MARK)]
    values = {entry["key"]: entry["value"] for entry in entries}
    return {name: values[key] / 1e6 for name, key in PERCENTILES.items()}


def main(argv: list[str]) -> int:
    """Run the one test of the job."""
    helper.check("loadtest.truth.loadgen", __doc__, argv, "JOB")
    import mlperf_loadgen as loadgen

    job = json.loads(argv[0])
    os.sched_setaffinity(0, job["cores"])
    sys.setswitchinterval(0.0005)  # a thread that holds the interpreter delays the other by no more than this
    client = Client(loadgen, job["port"], job["num_bodies"])
    output = loadgen.LogOutputSettings()
    output.outdir = job["folder"]
    output.copy_summary_to_stdout = False
    logs = loadgen.LogSettings()
    logs.log_output = output
    logs.enable_trace = False
    sut = loadgen.ConstructSUT(client.issue, lambda: None)
    library = loadgen.ConstructQSL(job["num_bodies"], job["num_bodies"], lambda _: None, lambda _: None)
    loadgen.StartTestWithLogSettings(sut, library, settings(loadgen, job), logs)
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(sut)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
