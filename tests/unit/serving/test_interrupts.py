"""Interrupts wait for the end of a block, whichever thread the kernel gives them to, and are ignored when it must be."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from serving import interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def handlers():
    """As cli.run sets them; put back afterwards."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    yield interrupt
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_takes_effect_when_the_block_has_ended(handlers, number):
    other = threading.Thread(target=threading.Event().wait, daemon=True)  # the kernel may give it the signal
    other.start()
    done = []

    def block():
        with interrupts.held():
            os.kill(os.getpid(), number)
            child = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=True)
            done.append(child.stdout)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == [b"1\n"]
    assert {signal.getsignal(each) for each in SIGNALS} == {handlers}


def test_what_is_ignored_stays_so(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with interrupts.held():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    interrupts.ignore_interrupts()
    for number in SIGNALS:
        os.kill(os.getpid(), number)
