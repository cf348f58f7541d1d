"""loadtest.truth: the models, and what the truth of a schedule is."""

import numpy as np
import pytest

from loadtest.rows import Rows
from loadtest.truth import cases
from loadtest.truth.behaviours import MS, Behaviour, Model, due_ns
from loadtest.truth.cases import Case
from loadtest.truth.server import Log

MODELS = [
    Behaviour(kind="fixed", service_ms=3),
    Behaviour(kind="queue", service_ms=2),
    Behaviour(kind="stalls", service_ms=2, stall_ms=40, period_ms=100),
]


@pytest.mark.parametrize("behaviour", MODELS, ids=lambda behaviour: behaviour.kind)
def test_both_ways_of_saying_what_a_server_does_agree(behaviour: Behaviour) -> None:
    arrivals = np.cumsum(np.random.default_rng(1).exponential(3 * MS, 2000)).astype(np.int64)
    model = Model(behaviour, epoch_ns=17 * MS)
    assert due_ns(behaviour, arrivals, 17 * MS).tolist() == [model.due(int(moment)) for moment in arrivals]


def test_a_queue_serves_one_at_a_time() -> None:
    arrivals = np.array([0, 1, 2, 100], dtype=np.int64) * MS
    assert (due_ns(Behaviour(kind="queue", service_ms=10), arrivals) // MS).tolist() == [10, 20, 30, 110]


def test_m_d_1_has_the_mean_wait_of_the_textbook() -> None:
    arrivals = np.cumsum(np.random.default_rng(2).exponential(10 * MS, 400_000)).astype(np.int64)
    wait_ms = (due_ns(Behaviour(kind="queue", service_ms=7), arrivals) - arrivals).mean() / MS - 7
    assert wait_ms == pytest.approx(0.7 * 7 / (2 * 0.3), rel=0.05)  # Pollaczek and Khinchine: rho s / 2 (1 - rho)


def test_what_is_due_in_a_stall_comes_at_its_end() -> None:
    behaviour = Behaviour(kind="stalls", service_ms=5, stall_ms=50, period_ms=100)
    arrivals = np.array([0, 60, 96, 170], dtype=np.int64) * MS
    assert (due_ns(behaviour, arrivals) // MS).tolist() == [50, 65, 150, 175]


def test_an_unknown_behaviour() -> None:
    with pytest.raises(ValueError, match="behaviour 'slow'"):
        Behaviour(kind="slow")


def rows_of(sent_ms: list[float], payload: list[int]) -> Rows:
    num = len(sent_ms)
    scheduled = np.arange(1, num + 1, dtype=np.int64) * 100 * MS
    zeros = np.zeros(num, dtype=np.int64)
    sent = scheduled + np.array([round(ms * MS) for ms in sent_ms], dtype=np.int64)
    names = ("wait_ns", "correct", "num_rows", "bytes_out", "bytes_in", "window")
    return Rows(
        scheduled_ns=scheduled,
        sent_ns=sent,
        done_ns=sent,
        status=zeros + 200,
        payload=np.array(payload, dtype=np.int64),
        **dict.fromkeys(names, zeros),
    )


def test_a_late_generator_is_not_forgiven_and_a_late_server_is() -> None:
    rows = rows_of([4.0, 0.0], [7, 3])
    came = rows.sent_ns + 1 * MS  # a millisecond on its way
    due = came + 10 * MS
    log = Log(number=np.array([7, 3]), came=came, due=due, out=due + np.array([0, 2 * MS]), epoch_ns=0)
    found = cases.truth(Case(behaviour=Behaviour(kind="fixed", service_ms=10), rate=10.0), rows, log)
    # The first was sent 4 ms late: an ideal generator would have seen 11 ms. The second's server was 2 ms late itself.
    assert found.latency_ms == {"p50": 11.0, "p99": 13.0, "p99_9": 13.0}
    assert (found.num_ok, found.num_struck) == (2, 0)


def test_entries_are_found_by_number_and_time() -> None:
    rows = rows_of([0.0, 0.0, 0.0], [5, 6, 5])
    order = [2, 0, 1]  # the log also has an older request of the same number
    came = np.array([*(rows.sent_ns[order] + 10), 5 * MS])
    log = Log(number=np.array([5, 5, 6, 5]), came=came, due=came, out=came, epoch_ns=0)
    assert cases._match(rows, log).tolist() == [1, 2, 0]


@pytest.mark.parametrize("seed", [1, 2])  # a rate that stands at once, and one (351/s) that is refuted and searched for below
def test_the_truth_of_max_qps_is_near_that_of_a_long_run(seed: int) -> None:
    truth, at_length = cases.max_qps_truth(cases.SEARCH, seed=seed)
    assert truth is not None and at_length is not None
    assert truth == pytest.approx(at_length, rel=0.15)
    assert at_length < 500  # the server's capacity
