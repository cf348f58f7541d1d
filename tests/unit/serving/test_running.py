"""What /proc says of a process that is known."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from faceoff.errors import FaceoffError
from serving import running

CHILD = """
import os, sys, threading, time
os.sched_setaffinity(0, {int(sys.argv[1])})
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
while time.process_time() < 0.1:  # /proc counts processor time in ticks of 10 ms
    pass
print("up", flush=True)
sys.stdin.read()
"""


@contextmanager
def child(core: int, **environment: str):
    """A process of four threads on one core, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(core)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout.readline() == b"up\n"
        yield process.pid
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_cores_threads_environment_and_allocator_are_those_of_the_process():
    core = max(os.sched_getaffinity(0))
    with child(core, OMP_NUM_THREADS="7", SECRET="x") as pid:
        assert running.cores([pid]) == (core,)
        assert running.num_threads([pid]) == 4
        found = running.environment(pid)
        assert (found["OMP_NUM_THREADS"], "SECRET" in found) == ("7", False)
        assert running.allocator([pid]) == "glibc"
        assert running.command_line(pid)[1:] == ["-c", CHILD, str(core)]
        cpu_s, rss_bytes = running.usage([pid])
        assert (cpu_s > 0, rss_bytes > 2**20) == (True, True)
        assert pid in running.tree(os.getpid())


def test_the_cores_of_several_processes_are_all_of_theirs():
    usable = sorted(os.sched_getaffinity(0))
    with child(usable[0]) as one, child(usable[-1]) as two:
        assert running.cores([one, two]) == tuple(sorted({usable[0], usable[-1]}))


def test_another_users_process_is_said(monkeypatch):
    def denied(self, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", denied)
    for ask, name in ((running.environment, "environ"), (lambda pid: running.allocator([pid]), "maps")):
        with pytest.raises(FaceoffError, match=rf"process 7 is another user's: its {name} in /proc may not be read"):
            ask(7)


def test_a_process_that_has_gone_is_said_and_counts_nothing():
    with child(max(os.sched_getaffinity(0))) as pid:
        pass
    with pytest.raises(FaceoffError, match=rf"process {pid} has ended; run: make status"):
        running.tree(pid)
    assert (running.cores([pid]), running.num_threads([pid]), running.usage([pid])) == ((), 0, (0.0, 0))
    assert (running.environment(pid), running.command_line(pid)) == ({}, [])
