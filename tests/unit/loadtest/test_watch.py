"""loadtest.watch: what a server's processes used, and what it says of itself."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from faceoff import endpoints
from loadtest import watch
from loadtest.watch import Use
from serving.metrics import ServerMetrics

# Uses CPU for each line it reads, the first half in a thread that ends, and says when it is done.
BUSY = """
import sys, threading
def work():
    sum(i * i for i in range(300_000))
for line in sys.stdin:
    thread = threading.Thread(target=work); thread.start(); thread.join(); work()
    print("done", flush=True)
"""


def test_the_cpu_time_of_a_window_is_what_the_kernel_charges_the_process():
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        endpoint = endpoints.nowhere("torchserve", "cnn", 1)
        endpoint.pids.append(process.pid)
        clock = (~process.pid << 3) | 2
        before = time.clock_gettime_ns(clock)
        with watch.window(endpoint) as used:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
        after = time.clock_gettime_ns(clock)
        process.stdin.close()
    assert 0 < used.cpu_ns <= after - before
    assert used.rss_bytes > 1_000_000
    assert used.metrics is None


def test_an_endpoint_without_processes_has_no_figures():
    with watch.window(endpoints.nowhere("elsewhere", "cnn", 1)) as used:
        pass
    assert used == Use()
    assert watch.total([used], 100) == watch.Total(cpu_us_per_request=None, rss_bytes=None, queue_ms=None, compute_ms=None)


def test_a_process_that_is_gone_leaves_no_figure():
    endpoint = endpoints.nowhere("torchserve", "cnn", 1)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        endpoint.pids.append(process.pid)
    with watch.window(endpoint) as used:
        pass
    assert used.cpu_ns is None


def use(**metrics: Any) -> Use:
    return Use(cpu_ns=500_000, rss_bytes=metrics.pop("rss", 10), metrics=ServerMetrics(**metrics))


def test_windows_are_added_up_before_they_are_divided():
    one = use(queue_total_ms=10.0, num_queued=10, compute_total_ms=5.0, num_computed=5, rss=30)
    two = use(queue_total_ms=90.0, num_queued=30, compute_total_ms=25.0, num_computed=5, rss=20)
    found = watch.total([one, two], 50)
    assert found.cpu_us_per_request == pytest.approx(20.0)
    assert (found.queue_ms, found.compute_ms, found.rss_bytes) == (2.5, 3.0, 30)


def test_what_one_window_lacks_is_not_made_up():
    one = use(compute_total_ms=5.0, num_computed=5)
    two = use(compute_total_ms=None, num_computed=5)
    assert watch.total([one, two], 50).compute_ms is None
    assert watch.total([one, Use()], 50).cpu_us_per_request is None
