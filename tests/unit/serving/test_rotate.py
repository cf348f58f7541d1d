"""A server's output: all of it, in order, in files that rotate, whatever happens meanwhile."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

from faceoff import processes
from serving import rotate


def pumped(path, parts, **options):
    """Write the parts into a pipe that is pumped to `path`."""
    read, write = os.pipe()
    thread = threading.Thread(target=rotate.pump, args=(read, path), kwargs=options)
    thread.start()
    for part in parts:
        if callable(part):
            part()
        else:
            os.write(write, part)
    os.close(write)
    thread.join()
    os.close(read)


def test_the_file_rotates_at_ends_of_lines_and_nothing_is_lost(tmp_path):
    lines = [b"line %04d %s\n" % (number, b"x" * 30) for number in range(100)]
    log = tmp_path / "server.log"
    pumped(log, [line[:7] if half == 0 else line[7:] for line in lines for half in (0, 1)], max_bytes=1800, chunk=64)
    files = [rotate.older(log, number) for number in (2, 1)] + [log]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.1.log", "server.2.log", "server.log"]
    assert b"".join(path.read_bytes() for path in files) == b"".join(lines)
    assert all(path.read_bytes().endswith(b"\n") for path in files)
    assert all(path.stat().st_size < 2 * 1800 for path in files)


def test_only_so_many_older_files_stay(tmp_path):
    log = tmp_path / "server.log"
    for number in range(8):
        log.write_text(str(number))
        rotate.rotate(log)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "server.1.log": "7",
        "server.2.log": "6",
        "server.3.log": "5",
    }


def test_a_line_without_an_end_does_not_grow_for_ever(tmp_path):
    log = tmp_path / "server.log"
    pumped(log, [b"x" * 1000] * 10, max_bytes=1500, chunk=500)
    assert log.stat().st_size < 4000
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 10_000


class FullAtFirst(type(Path())):
    """A file on a disk that is full when it is first opened."""

    refused = threading.Event()

    def open(self, *args, **options):
        if not self.refused.is_set():
            self.refused.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().open(*args, **options)


def test_what_cannot_be_written_is_counted_and_the_server_goes_on(tmp_path):
    log = FullAtFirst(tmp_path / "server.log")
    pumped(log, [b"lost\n", log.refused.wait, b"kept\n"])
    assert Path(log).read_text() == "[5 bytes of output could not be written]\nkept\n"


def test_the_program_ends_with_its_pipe_and_with_nothing_else(tmp_path):
    log, folder = tmp_path / "server.log", tmp_path / "temporary"
    (folder / "models").mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", "serving.rotate", str(log), str(folder)],
        stdin=subprocess.PIPE,
        env=processes.environment(),
    )
    process.stdin.write(b"first\n")
    process.stdin.flush()
    while not log.exists() or not log.stat().st_size:  # then its signal handlers are set
        assert process.poll() is None
    process.terminate()
    process.stdin.write(b"second\n")
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert (log.read_text(), folder.exists()) == ("first\nsecond\n", False)
