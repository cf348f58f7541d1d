"""loadtest.machine."""

import os

from loadtest import machine

STAT = """cpu  10 0 10 100 0 0 0 9 5 0
cpu0 4 0 4 40 1 1 1 3 2 0
cpu1 6 0 6 60 0 0 0 6 3 0
cpu10 1 1 1 1 1 1 1 1 1 1
intr 1
"""


def test_ticks_of_the_given_cores_only() -> None:
    assert machine.ticks(STAT, [0]) == (3, 54)
    assert machine.ticks(STAT, [0, 1]) == (9, 132)
    assert machine.ticks(STAT, [7]) == (0, 0)


def test_no_program_runs_while_a_core_idles_waits_or_serves_an_interrupt() -> None:
    assert machine.free_ns(STAT, [0]) == (40 + 1 + 1 + 1 + 3) * machine.TICK_NS
    assert machine.free_ns(STAT, [0, 1]) == (46 + 66) * machine.TICK_NS


def test_counters_count_up() -> None:
    cores = os.sched_getaffinity(0)
    one, two = machine.read(cores), machine.read(cores)
    assert two.moment_ns > one.moment_ns
    assert two.cpu_ns >= one.cpu_ns
    assert two.run_queue_ns >= one.run_queue_ns
    assert two.total_ticks >= one.total_ticks > 0
