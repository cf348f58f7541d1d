"""A server's output into a file that rotates: `python -m serving.rotate server.log [FOLDER]` copies standard input to it.

At MAX_BYTES the file becomes server.1.log, that one server.2.log, and so on; KEEP older ones stay. It ends when the last
process that holds the other end of the pipe has ended, and with nothing else: a server whose output nobody reads would
stop. For that reason too, what cannot be written (a full disk) is dropped and counted, and said once writing works again.
At its end it removes FOLDER, the server's temporary one: nothing else ends when the server does, however that happens.
Few imports, and one of ours that has none: one such process runs beside every server.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from faceoff import helper

MAX_BYTES = 10 * 2**20
KEEP = 3


def older(path: Path, number: int) -> Path:
    """The file that `path` has become after `number` rotations."""
    return path.with_suffix(f".{number}{path.suffix}")


def rotate(path: Path) -> None:
    """Move every file one number up; the oldest is replaced."""
    for number in range(KEEP, 0, -1):
        source = older(path, number - 1) if number > 1 else path
        if source.exists():
            source.replace(older(path, number))


def pump(source: int, path: Path, max_bytes: int = MAX_BYTES, chunk: int = 2**16) -> None:
    """Copy the file descriptor to `path` until its end, rotating at ends of lines."""
    lost = 0
    while data := os.read(source, chunk):
        whole, newline, rest = data.rpartition(b"\n")
        try:
            if lost:
                _append(path, b"[%d bytes of output could not be written]\n" % lost)
                lost = 0
            size = _append(path, whole + newline)
            if size >= max_bytes and (newline or size >= 2 * max_bytes):
                rotate(path)
            _append(path, rest)
        except OSError:
            lost += len(data)


def _append(path: Path, data: bytes) -> int:
    """Opened anew each time: whoever removes or moves the file meanwhile does not make us write into nowhere."""
    with path.open("ab", buffering=0) as file:
        while data:
            data = data[file.write(data) :]
        return file.tell()


def main() -> None:
    """`python -m serving.rotate FILE [FOLDER]`."""
    helper.check("serving.rotate", __doc__, sys.argv[1:], "FILE", "[FOLDER]")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pump(0, Path(sys.argv[1]))
    for folder in sys.argv[2:]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
