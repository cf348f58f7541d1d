"""loadtest.timer. When something fires late is never asserted: the machine may be busy."""

import asyncio
import time

import uvloop

from loadtest.timer import LagMeter, Timer


def test_timers_fire_in_order_and_not_early() -> None:
    async def wait() -> list[tuple[int, int]]:
        loop = asyncio.get_running_loop()
        start = time.monotonic_ns()
        moments = [start + step for step in (3_000_000, 1_000_000, -5_000_000)]
        fired: list[tuple[int, int]] = []
        for moment in moments:
            done = loop.create_future()
            timer = Timer(loop, lambda done=done: done.set_result(time.monotonic_ns()))
            timer.arm(moment)
            fired.append((moment, await done))
            timer.close()
        return fired

    for run in (asyncio.run, uvloop.run):
        assert all(at >= moment for moment, at in run(wait()))


def test_a_stall_counts_once_for_each_tick_it_swallows() -> None:
    async def stall() -> list[int]:
        meter = LagMeter(asyncio.get_running_loop())
        await asyncio.sleep(0)
        time.sleep(0.05)
        await asyncio.sleep(0.02)
        meter.close()
        return meter.lags_ns

    lags = uvloop.run(stall())
    assert len(lags) >= 20
    assert max(lags) >= 40_000_000
    assert all(lag >= 0 for lag in lags)
