"""Linux x86-64 and CPython 3.11, or one clear line. Runs under any Python 3, before anything is installed.

`python3 -m faceoff.platform_check` prints nothing and ends with 0, or the line and its JSON and ends with 2.
"""

import json
import platform
import sys

from faceoff import helper


def problem() -> "str | None":
    """What is wrong with this machine and interpreter, or None."""
    found = "{} {} on {} {}".format(
        platform.python_implementation(), platform.python_version(), platform.system(), platform.machine()
    )
    fits = platform.system() == "Linux" and platform.machine() == "x86_64"
    fits = fits and platform.python_implementation() == "CPython" and sys.version_info[:2] == (3, 11)
    if fits:
        return None
    return (
        "found {}; expected CPython 3.11 on Linux x86_64, which torchserve 0.12 and the pinned wheels need; "
        "name the interpreter: make PYTHON=/path/to/python3.11".format(found)
    )


if __name__ == "__main__":
    helper.check("faceoff.platform_check", __doc__, sys.argv[1:])
    text = problem()
    if text:
        print("faceoff: usage: " + text, file=sys.stderr)
        print(json.dumps({"status": "usage", "error": text}))
        raise SystemExit(2)
