from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from serving.embedded.batcher import NaturalBatcher, padded_rows
from serving.embedded.config import BatchingConfig
from serving.embedded.errors import Code, ServingError
from serving.embedded.session_batcher import BatchThreads, SessionBatcher
from tests.unit.serving.embedded.fakemodel import FakeModel, rows, signature

SIGNATURE = signature()
Y = ("y",)


def run(scenario: Callable[[FakeModel, NaturalBatcher], Awaitable[None]], *, max_rows: int = 64) -> FakeModel:
    model = FakeModel(max_rows=max_rows)

    async def main() -> None:
        await scenario(model, NaturalBatcher(model, executor))

    with ThreadPoolExecutor(4) as executor:
        asyncio.run(main())
    return model


async def entered(model: FakeModel, number: int) -> None:
    while len(model.runs) < number:
        await asyncio.sleep(0.001)


def test_a_lone_request_runs_at_once_and_unpadded() -> None:
    async def scenario(model: FakeModel, batcher: NaturalBatcher) -> None:
        (y,) = await batcher.submit(SIGNATURE, rows(1, 2, 5), Y)
        assert y.tolist() == [2.5, 3.0, 4.5]

    assert run(scenario).runs == [(3,)]


def test_what_arrives_while_the_model_is_busy_is_one_padded_run() -> None:
    async def scenario(model: FakeModel, batcher: NaturalBatcher) -> None:
        model.gate.clear()
        first = batcher.submit(SIGNATURE, rows(0), Y)
        await asyncio.sleep(0.01)
        rest = [batcher.submit(SIGNATURE, rows(*range(at, at + 1 + at % 2)), Y) for at in range(1, 6)]
        await asyncio.sleep(0.01)
        model.gate.set()
        answers = await asyncio.gather(first, *rest)
        for at, (y,) in enumerate(answers[1:], start=1):
            assert y.tolist() == [value / 2 + 2 for value in range(at, at + 1 + at % 2)]

    assert run(scenario).runs == [(1,), (8,)]


def test_other_shapes_do_not_share_a_run() -> None:
    async def scenario(model: FakeModel, batcher: NaturalBatcher) -> None:
        flat = [batcher.submit(SIGNATURE, [np.ones(1, "f4")], Y) for _ in range(2)]
        deep = [batcher.submit(SIGNATURE, [np.ones((1, 3), "f4")], Y) for _ in range(2)]
        scalar = batcher.submit(SIGNATURE, [np.float32(1).reshape(())], Y)
        shapes = [y.shape for (y,) in await asyncio.gather(*flat, *deep, scalar)]
        assert shapes == [(1,), (1,), (1, 3), (1, 3), ()]

    assert sorted(run(scenario).runs) == [(), (2,), (2, 3)]


def test_a_run_is_never_larger_than_the_limit() -> None:
    async def scenario(model: FakeModel, batcher: NaturalBatcher) -> None:
        await asyncio.gather(*(batcher.submit(SIGNATURE, rows(at, at), Y) for at in range(10)))

    assert max(shape[0] for shape in run(scenario, max_rows=8).runs) <= 8


def test_rows_that_influence_each_other_are_never_mixed() -> None:
    async def scenario(model: FakeModel, batcher: NaturalBatcher) -> None:
        await asyncio.gather(*(batcher.submit(SIGNATURE, rows(at), Y) for at in range(5)))

    assert run(scenario, max_rows=1).runs == [(1,)] * 5


def test_a_bad_request_does_not_fail_its_neighbours() -> None:
    async def scenario(model: FakeModel, batcher: NaturalBatcher) -> None:
        answers = await asyncio.gather(
            *(batcher.submit(SIGNATURE, rows(value), Y) for value in (1, 13, 3)), return_exceptions=True
        )
        assert isinstance(answers[1], ServingError)
        assert [answers[0][0].tolist(), answers[2][0].tolist()] == [[2.5], [3.5]]

    run(scenario)


def test_a_request_nobody_waits_for_any_more_is_dropped() -> None:
    async def scenario(model: FakeModel, batcher: NaturalBatcher) -> None:
        batcher.submit(SIGNATURE, rows(1), Y).cancel()
        await batcher.drained()

    assert run(scenario).runs == []


def test_requests_that_cannot_share_a_run_do_not_wait_for_each_other() -> None:
    async def scenario(model: FakeModel, batcher: NaturalBatcher) -> None:
        model.gate.clear()
        slow = batcher.submit(SIGNATURE, rows(1), Y)
        await asyncio.sleep(0.01)
        other = batcher.submit(SIGNATURE, [np.ones((1, 2), "f4")], Y)
        await asyncio.sleep(0.01)
        assert not slow.done()
        model.gate.set()
        await asyncio.gather(slow, other)

    assert len(run(scenario).runs) == 2


def test_short_runs_come_into_the_event_loop_once_their_cost_is_known() -> None:
    async def scenario(model: FakeModel, batcher: NaturalBatcher) -> None:
        for _ in range(20):
            await batcher.submit(SIGNATURE, rows(1), Y)
        await batcher.drained()

    assert len(run(scenario).runs) == 20


@pytest.mark.parametrize("takes_s", [0.0, 0.001])
def test_shared_runs_come_into_the_event_loop_where_they_are_shorter_than_the_way_to_a_thread(takes_s: float) -> None:
    class Watched(FakeModel):
        def run(self, *given: Any) -> list[np.ndarray]:
            time.sleep(takes_s)
            inline.append(threading.current_thread() is threading.main_thread())
            return super().run(*given)

    inline: list[bool] = []

    async def main() -> None:
        batcher = NaturalBatcher(Watched(), executor)
        for _ in range(200):  # a busy machine may make any one of them look long
            three = [batcher.submit(SIGNATURE, rows(at), Y) for at in range(3)]
            other = batcher.submit(SIGNATURE, [np.ones((1, 2), "f4")], Y)
            answers = await asyncio.gather(*three, other)
            assert [y.tolist() for (y,) in answers] == [[2], [2.5], [3], [[2.5, 2.5]]]
        await batcher.drained()

    with ThreadPoolExecutor(4) as executor:
        asyncio.run(main())
    assert any(inline) == (takes_s == 0)


def test_drained_waits_for_what_is_running() -> None:
    async def scenario(model: FakeModel, batcher: NaturalBatcher) -> None:
        model.gate.clear()
        pending = batcher.submit(SIGNATURE, rows(1), Y)
        drained = asyncio.create_task(batcher.drained())
        await asyncio.sleep(0.02)
        assert not drained.done()
        model.gate.set()
        await drained
        assert pending.done()

    run(scenario)


def test_padding_goes_to_the_next_warm_size() -> None:
    assert [padded_rows(rows) for rows in (1, 2, 3, 4, 5, 6, 7, 9, 13, 33, 49)] == [1, 2, 3, 4, 6, 6, 8, 12, 16, 48, 64]
    assert all(padded_rows(rows) >= rows for rows in range(1, 200))
    assert all(padded_rows(padded_rows(rows)) == padded_rows(rows) for rows in range(1, 200))


# -- --enable_batching -----------------------------------------------------------------------------------------------


def session(scenario: Callable[[FakeModel, SessionBatcher], Awaitable[None]], config: BatchingConfig | None = None) -> FakeModel:
    model = FakeModel()

    async def main() -> None:
        batcher = SessionBatcher(model, BatchThreads(config or BatchingConfig(max_batch_size=4), executor))
        await scenario(model, batcher)
        await batcher.drained()

    with ThreadPoolExecutor(4) as executor:
        asyncio.run(main())
    return model


@pytest.mark.parametrize(
    ("feeds", "told"),
    [
        (rows(*range(7)), "Task size 7 is larger than maximum input batch size 4"),
        ([np.float32(3).reshape(())], "Batching Run() input tensors must have at least one dimension"),
        ([np.ones(1, "f4"), np.ones(2, "f4")], "Batching Run() input tensors must have equal 0th-dimension size"),
    ],
)
def test_refusals_of_batching(feeds: list[np.ndarray], told: str) -> None:
    async def scenario(model: FakeModel, batcher: SessionBatcher) -> None:
        with pytest.raises(ServingError) as error:
            await batcher.submit(SIGNATURE, feeds, Y)
        assert (error.value.code, error.value.message) == (Code.INVALID_ARGUMENT, told)

    session(scenario)


def test_a_batch_closes_when_full() -> None:
    async def scenario(model: FakeModel, batcher: SessionBatcher) -> None:
        answers = await asyncio.gather(*(batcher.submit(SIGNATURE, rows(at), Y) for at in range(8)))
        assert [y.tolist() for (y,) in answers] == [[at / 2 + 2] for at in range(8)]

    assert session(scenario, BatchingConfig(max_batch_size=4, batch_timeout_micros=60_000_000)).runs == [(4,), (4,)]


def test_different_shapes_in_one_batch_fail_together() -> None:
    async def scenario(model: FakeModel, batcher: SessionBatcher) -> None:
        answers = await asyncio.gather(
            batcher.submit(SIGNATURE, [np.ones((1, 2), "f4")], Y),
            batcher.submit(SIGNATURE, [np.ones((1, 3), "f4")], Y),
            return_exceptions=True,
        )
        for answer in answers:
            assert isinstance(answer, ServingError)
            assert answer.code is Code.FAILED_PRECONDITION
            assert answer.message.startswith("Tensors with name 'x:0' from different tasks have different shapes")

    assert session(scenario, BatchingConfig(max_batch_size=2, batch_timeout_micros=60_000_000)).runs == []


def test_padding_of_lengths_repeats_the_first_element() -> None:
    seen = []

    async def scenario(model: FakeModel, batcher: SessionBatcher) -> None:
        answers = await asyncio.gather(
            batcher.submit(SIGNATURE, [np.array([[1, 2]], "f4")], Y), batcher.submit(SIGNATURE, [np.array([[1, 1, 1]], "f4")], Y)
        )
        seen.extend(y.tolist() for (y,) in answers)

    config = BatchingConfig(max_batch_size=2, batch_timeout_micros=60_000_000, pad_variable_length_inputs=True)
    session(scenario, config)
    assert seen == [[[2.5, 3.0, 2.5]], [[2.5, 2.5, 2.5]]]


def test_allowed_sizes_pad_and_cut() -> None:
    async def scenario(model: FakeModel, batcher: SessionBatcher) -> None:
        (y,) = await batcher.submit(SIGNATURE, rows(1, 2, 3), Y)
        assert y.tolist() == [2.5, 3.0, 3.5]

    assert session(scenario, BatchingConfig(max_batch_size=8, allowed_batch_sizes=(4, 8))).runs == [(4,)]


def test_a_request_of_no_rows_is_answered() -> None:
    async def scenario(model: FakeModel, batcher: SessionBatcher) -> None:
        (y,) = await batcher.submit(SIGNATURE, rows(), Y)
        assert y.shape == (0,)

    session(scenario)


def test_a_full_queue_refuses() -> None:
    async def scenario(model: FakeModel, batcher: SessionBatcher) -> None:
        model.gate.clear()
        pending = [batcher.submit(SIGNATURE, rows(1, 1), Y) for _ in range(8)]
        while not any(future.done() for future in pending):
            await asyncio.sleep(0.01)
        codes = [future.exception().code for future in pending if future.done()]  # type: ignore[union-attr]
        assert codes
        assert set(codes) == {Code.UNAVAILABLE}
        model.gate.set()
        await asyncio.gather(*pending, return_exceptions=True)

    session(scenario, BatchingConfig(max_batch_size=2, max_enqueued_batches=2))
