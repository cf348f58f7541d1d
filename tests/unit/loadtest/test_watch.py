"""loadtest.watch: what a server's processes used, and what it says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from faceoff import endpoints
from loadtest import watch
from loadtest.machine import TICK_NS
from loadtest.watch import Use
from serving.metrics import ServerMetrics

CORES = sorted(os.sched_getaffinity(0))
# Uses CPU for each line it reads, the first half in a thread that ends, and says when it is done.
BUSY = """
import sys, threading
def work():
    sum(i * i for i in range(300_000))
for line in sys.stdin:
    thread = threading.Thread(target=work); thread.start(); thread.join(); work()
    print("done", flush=True)
"""
HALF_A_SECOND = f"""
import os, time
os.sched_setaffinity(0, {{{CORES[0]}}})
while time.thread_time() < 0.5:
    pass
"""
# Runs that for each line it reads, and says when it has ended.
PARENT = f"""
import subprocess, sys
for line in sys.stdin:
    subprocess.run([sys.executable, "-c", {HALF_A_SECOND!r}])
    print("done", flush=True)
"""


def test_the_cpu_time_of_a_window_is_what_the_kernel_charges_the_process():
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        endpoint = endpoints.nowhere("torchserve", "cnn", 1)
        endpoint.pids.append(process.pid)
        clock = (~process.pid << 3) | 2
        before = time.clock_gettime_ns(clock)
        with watch.window(endpoint, ()) as used:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
        after = time.clock_gettime_ns(clock)
        process.stdin.close()
    assert 0 < used.cpu_ns <= after - before
    assert used.rss_bytes > 1_000_000
    assert used.metrics is None


def test_an_endpoint_without_processes_has_no_figures():
    with watch.window(endpoints.nowhere("elsewhere", "cnn", 1), ()) as used:
        pass
    assert used == Use()
    total = watch.total([used], 100)
    assert (total.cpu_us_per_request, total.rss_bytes, total.others_percent, total.queue_ms, total.compute_ms) == (None,) * 5


def test_a_process_that_is_gone_leaves_no_figure():
    endpoint = endpoints.nowhere("torchserve", "cnn", 1)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        endpoint.pids.append(process.pid)
    with watch.window(endpoint, ()) as used:
        pass
    assert used.cpu_ns is None


def test_another_program_on_the_servers_core_is_seen():
    endpoint = endpoints.nowhere("torchserve", "cnn", 1)
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE) as idle:
        endpoint.pids.append(idle.pid)
        with watch.window(endpoint, CORES[1:]) as used:
            started = time.monotonic_ns()
            subprocess.run([sys.executable, "-c", HALF_A_SECOND], check=True)
            wall_ns = time.monotonic_ns() - started
    # it ran for half a second, of which the ticks may hide 20 ms and the way in and out of the block some more
    assert used.others_percent > 0.8 * 100 * (500_000_000 - 2 * TICK_NS) / wall_ns


def test_what_the_server_starts_meanwhile_is_the_servers():
    endpoint = endpoints.nowhere("torchserve", "cnn", 1)
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        endpoint.pids.append(process.pid)
        before = watch._children_ns([process.pid])
        process.stdin.write("\n")
        process.stdin.flush()
        while watch._children_ns([process.pid]) - before < 300_000_000:  # while it runs
            time.sleep(0.01)
        assert process.stdout.readline() == "done\n"
        assert watch._children_ns([process.pid]) - before >= 450_000_000  # and when it has ended, in ticks
        process.stdin.close()


def test_the_share_of_others_is_what_neither_idled_nor_was_the_servers():
    second = 1_000_000_000
    assert watch.others_percent(second, 300_000_000, 400_000_000, 1) == pytest.approx(30 - 2)  # less two ticks of 10 ms
    assert watch.others_percent(second, 1_300_000_000, 400_000_000, 2) == pytest.approx(15 - 2)
    assert watch.others_percent(second, 600_000_000, 410_000_000, 1) == 0  # clocks that do not agree are nobody's program
    assert watch.others_percent(second, 0, 0, 0) is None


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
