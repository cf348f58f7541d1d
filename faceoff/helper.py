"""How a module that a process of ours starts answers a person who runs it by hand.

    helper.check("serving.rotate", __doc__, sys.argv[1:], "FILE", "[FOLDER]")

No argparse, nothing beyond os: such modules start beside every server, on a clock, or (faceoff.platform_check) under any
Python 3 before anything is installed.
"""

import os
import stat
import sys


def check(module: str, doc: "str | None", given: list, *operands: str) -> None:
    """End with `doc` and 0 for --help, with a line and 2 for what is not these operands; those in [brackets] may be left out."""
    if "--help" in given or "-h" in given:
        sys.stdout.write((doc or "").strip() + "\n")
        raise SystemExit(0)
    options = [text for text in given if text.startswith("-")]
    needed = [name for name in operands if not name.startswith("[")]
    if options or not len(needed) <= len(given) <= len(operands):
        found = repr(options[0]) if options else " ".join(map(repr, given)) or "nothing"
        refuse(module, "found " + found + ", expected " + (" ".join(operands) or "no arguments"))


def need_pipe(module: str) -> None:
    """End with a line and 2 unless stdin is a pipe or a socket: libuv aborts where it cannot wait, as for /dev/null or a file."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:  # closed
        mode = 0
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        refuse(module, "expected a pipe on stdin: it is started by a process of ours, which talks to it")


def refuse(module: str, problem: str) -> None:
    """End with a line and 2."""
    sys.stderr.write(module + ": usage: " + problem + " (see python -m " + module + " --help)\n")
    raise SystemExit(2)
