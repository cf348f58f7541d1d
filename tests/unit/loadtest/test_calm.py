import pytest

from loadtest import calm
from loadtest.calm import Calm


def stats(*samples):
    """/proc/stat texts that grow by the given (busy, steal) ticks a sample, of 25 a core; core 0 serves, core 1 generates."""
    texts, busy, steal, idle = [], 0, 0, 0
    for more_busy, more_steal in samples:
        for _ in range(2):  # before and after each sample
            texts.append(f"cpu 0\ncpu0 {50 * len(texts)} 0 0 0 0 0 0 0\ncpu1 {busy} 0 0 {idle} 0 0 0 {steal} 0 0\nintr 1\n")
            if len(texts) % 2:
                busy, steal, idle = busy + more_busy, steal + more_steal, idle + 25 - more_busy - more_steal
    return iter(texts)


def waiting(*samples):
    texts, slept = stats(*samples), []
    found = Calm(generator=[1], servers=[0], read=lambda: next(texts), sleep=slept.append)
    return found, slept


def test_a_machine_at_rest_costs_two_samples():
    found, slept = waiting((0, 0), (1, 0))
    assert found.wait() == 2 * calm.SAMPLE_S
    assert slept == [calm.SAMPLE_S] * 2


@pytest.mark.parametrize("disturbed", [(20, 0), (0, 5)])
def test_work_of_others_and_steal_are_waited_for(disturbed):
    found, slept = waiting((0, 0), disturbed, (0, 0), disturbed, (0, 0), (0, 0))
    found.wait()
    assert len(slept) == 6


def test_a_machine_that_never_rests_is_measured_when_the_wait_is_used_up():
    found, slept = waiting(*[(25, 0)] * 1000)
    assert found.wait() == calm.MAX_WAIT_S
    for _ in range(10):
        found.wait()
    assert found.waited_s == calm.BUDGET_S
    assert found.wait() == 0.0
    assert sum(slept) == calm.BUDGET_S
