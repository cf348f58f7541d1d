"""loadtest.loops with connections that answer by script; no time is asserted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
import uvloop

from loadtest.connection import STATUS_CONNECTION, STATUS_TIMEOUT, Connection, Route
from loadtest.loops import NO_ANSWER, Answers, ClosedWindow, OpenWindow, Window

ROUTE = Route(protocol="rest", host="127.0.0.1", port=1, path="/", content_type="x")
SECOND = 1_000_000_000
Script = Callable[[int], tuple[int, bytes] | None]


class Scripted(Connection):
    """Answers after one turn of the loop; None is no answer at all. Status -1 closes it."""

    def __init__(self, script: Script, *, refuses: bool = False) -> None:
        super().__init__(ROUTE, [], lambda *_: None, open_timeout_s=1.0)
        self.script, self.refuses, self.up, self.num_opened = script, refuses, not refuses, 0

    @property
    def is_open(self) -> bool:
        return self.up

    async def _open(self) -> None:
        self.num_opened += 1
        await asyncio.sleep(0)
        if self.refuses:
            raise ConnectionRefusedError
        self.up = True

    def _write(self, payload: int) -> None:
        answer = self.script(self.row)
        if answer is not None:
            self.up = answer[0] != STATUS_CONNECTION
            asyncio.get_running_loop().call_soon(self.finish, *answer)

    def close(self) -> None:
        self.up = False


def run(
    script: Script,
    *,
    num: int,
    connections: int,
    offsets_ns: list[int] | None = None,
    timeout_ns: int = SECOND,
    refuses: bool = False,
    at_once: bool = False,
    deadline_ns: int = 60 * SECOND,
) -> tuple[Window, list[Scripted]]:
    async def main() -> tuple[Window, list[Scripted]]:
        made = [Scripted(script, refuses=refuses) for _ in range(connections)]
        common = {
            "payloads": [i % 3 for i in range(num)],
            "answers": Answers(known=[{} for _ in range(3)]),
            "connections": made,
            "timeout_ns": timeout_ns,
            "deadline_ns": deadline_ns,
        }
        if offsets_ns is None:
            window: Window = ClosedWindow(**common)  # type: ignore[arg-type]
        else:
            window = OpenWindow(offsets_ns=offsets_ns, at_once=at_once, **common)
        await window.run()
        return window, made

    return uvloop.run(main())


def right(row: int) -> tuple[int, bytes] | None:
    return 200, b"%d" % (row % 3)


def test_closed_sends_each_request_once() -> None:
    window, _ = run(right, num=50, connections=4)
    assert window.issued == window.finished == 50
    assert set(window.status) == {200}
    assert all(0 < window.scheduled[i] <= window.sent[i] <= window.done[i] for i in range(50))
    assert set(window.wait) == {0}
    assert window.answers.num == 3
    assert sorted(window.answers.new) == [(i, i, b"%d" % i) for i in range(3)]


def test_answers_that_nobody_judges_are_not_kept() -> None:
    answers = Answers(known=[{}, {}], judged=False)
    assert {answers.number(at % 2, b"at %d ns" % at) for at in range(1000)} == {0}
    assert answers.new == [(0, 0, b"")]
    assert sum(len(known) for known in answers.known) == 1


def test_closed_with_more_connections_than_requests() -> None:
    window, _ = run(right, num=2, connections=8)
    assert window.finished == 2


def test_closed_is_scheduled_when_its_connection_became_free() -> None:
    window, _ = run(right, num=20, connections=1)
    assert all(window.scheduled[i + 1] == window.done[i] for i in range(19))


def test_closed_stops_sending_at_its_deadline() -> None:
    async def main() -> Window:
        common = {"payloads": [0] * 1000, "answers": Answers(known=[{}]), "timeout_ns": SECOND, "deadline_ns": 0}
        window = ClosedWindow(connections=[Scripted(right)], **common)  # type: ignore[arg-type]
        await window.run()
        return window

    window = uvloop.run(main())
    assert window.issued == window.finished < 1000


@pytest.mark.parametrize("offsets", [None, [i * 100_000 for i in range(30)]])
def test_errors_are_rows_without_an_answer(offsets: list[int] | None) -> None:
    statuses = [200, 503, STATUS_CONNECTION]
    window, made = run(lambda row: (statuses[row % 3], b"x"), num=30, connections=2, offsets_ns=offsets)
    assert [window.status.tolist().count(status) for status in statuses] == [10, 10, 10]
    assert all((window.answer[i] == NO_ANSWER) == (window.status[i] != 200) for i in range(30))
    assert sum(connection.num_opened for connection in made) >= 1  # opened again after it was lost


@pytest.mark.parametrize("offsets", [None, [0] * 6])
def test_a_server_that_is_not_there(offsets: list[int] | None) -> None:
    window, _ = run(right, num=6, connections=2, offsets_ns=offsets, refuses=True)
    assert set(window.status) == {STATUS_CONNECTION}
    assert window.finished == 6


@pytest.mark.parametrize("offsets", [None, [0, 1, 2, 3]])
def test_no_answer_is_a_timeout(offsets: list[int] | None) -> None:
    window, _ = run(
        lambda row: None if row == 1 else right(row), num=4, connections=2, offsets_ns=offsets, timeout_ns=SECOND // 5
    )
    assert window.status[1] == STATUS_TIMEOUT
    assert window.done[1] - window.scheduled[1] >= SECOND // 5
    assert [window.status[i] for i in (0, 2, 3)] == [200] * 3


def test_open_sends_at_the_scheduled_moments_not_before() -> None:
    offsets = [i * 500_000 for i in range(40)]
    window, _ = run(right, num=40, connections=40, offsets_ns=offsets)
    assert window.scheduled.tolist() == [window.start_ns + offset for offset in offsets]
    assert all(window.sent[i] >= window.scheduled[i] for i in range(40))
    assert set(window.wait) == {0}


def test_open_waits_for_a_free_connection_in_a_column_of_its_own() -> None:
    def hold_the_first(row: int) -> tuple[int, bytes] | None:
        return None if row == 0 else right(row)

    window, _ = run(hold_the_first, num=3, connections=1, offsets_ns=[0, 1, 2], timeout_ns=SECOND // 4)
    assert window.status[0] == STATUS_TIMEOUT
    assert window.finished == 3
    # What waited was sent late, and the whole delay is the wait's: none of it is blamed on the generator.
    assert all(window.wait[i] >= SECOND // 5 for i in (1, 2))


def test_what_never_finds_a_connection_times_out() -> None:
    window, _ = run(lambda row: None, num=5, connections=1, offsets_ns=[0] * 5, timeout_ns=SECOND // 5)
    assert set(window.status) == {STATUS_TIMEOUT}
    assert all(window.sent[i] >= window.scheduled[i] + window.wait[i] for i in range(5))


class Slow(Scripted):
    """Answers after a tenth of a second."""

    def _write(self, payload: int) -> None:
        asyncio.get_running_loop().call_later(0.1, self.finish, 200, b"1")


def test_where_all_is_due_at_once_waiting_is_no_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "Scripted", Slow)
    common = {"num": 6, "connections": 1, "offsets_ns": [0] * 6, "timeout_ns": SECOND // 4}
    window, _ = run(right, **common)
    assert STATUS_TIMEOUT in set(window.status)  # each has its time from its moment
    window, _ = run(right, at_once=True, **common)
    assert set(window.status) == {200}


def test_where_all_is_due_at_once_no_answer_and_the_deadline_still_end_it() -> None:
    common = {"num": 5, "connections": 1, "offsets_ns": [0] * 5, "at_once": True, "timeout_ns": SECOND // 10}
    window, _ = run(lambda row: None, **common)
    assert set(window.status) == {STATUS_TIMEOUT} and all(window.sent[i] > 0 for i in range(5))
    window, _ = run(lambda row: None, deadline_ns=SECOND // 20, **common)
    assert set(window.status) == {STATUS_TIMEOUT}
    assert window.sent[4] == window.done[4]  # it was never sent


def test_an_answer_is_there_when_the_kernel_had_it() -> None:
    class Stamped(Scripted):
        """Row 0 says when its answer came, row 1 a moment before it was sent, row 2 one that is still to come, row 3 nothing."""

        def finish(self, status: int, body: bytes) -> None:
            now = time.monotonic_ns()
            self.arrived_ns = [now - 1, 1, now + 60 * SECOND, 0][self.row]
            self.said = self.arrived_ns
            super().finish(status, body)

    async def main() -> tuple[Window, list[int]]:
        connection, said = Stamped(right), []
        common = {"payloads": [0] * 4, "answers": Answers(known=[{}]), "timeout_ns": SECOND, "deadline_ns": 60 * SECOND}
        window = ClosedWindow(connections=[connection], **common)  # type: ignore[arg-type]
        after = window.after

        def note(freed: Connection, now: int) -> None:
            said.append(connection.said)
            after(freed, now)

        window.after = note  # type: ignore[method-assign]
        await window.run()
        return window, said

    window, said = uvloop.run(main())
    assert window.done[0] == said[0]
    assert all(window.sent[row] <= window.done[row] != said[row] for row in (1, 2, 3))


@pytest.mark.parametrize(("gap_ns", "lead_ns"), [(10_000_000, 150_000), (1_000_000, 100_000), (50_000, 5_000), (0, 0)])
def test_it_wakes_early_for_at_most_a_tenth_of_its_time(gap_ns: int, lead_ns: int) -> None:
    window, _ = run(right, num=5, connections=5, offsets_ns=[gap_ns * (at + 1) for at in range(5)])
    assert isinstance(window, OpenWindow)
    assert window.lead_ns == lead_ns
    assert all(window.sent[at] >= window.scheduled[at] for at in range(5))


def test_windows_of_several_engines_begin_at_one_moment() -> None:
    async def main() -> Window:
        common = {"payloads": [0], "answers": Answers(known=[{}]), "timeout_ns": SECOND, "deadline_ns": SECOND}
        window = OpenWindow(offsets_ns=[7], connections=[Scripted(right)], **common)  # type: ignore[arg-type]
        await window.run(start := time.monotonic_ns() + 1_000_000)
        assert window.scheduled[0] == start + 7
        return window

    assert uvloop.run(main()).finished == 1


def test_an_exception_in_a_callback_ends_the_window() -> None:
    def broken(row: int) -> tuple[int, bytes] | None:
        if row == 3:
            raise RuntimeError("broken on purpose")
        return right(row)

    with pytest.raises(RuntimeError, match="broken on purpose"):
        run(broken, num=10, connections=1, offsets_ns=[i * 1000 for i in range(10)])
