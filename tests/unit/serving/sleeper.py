"""A process to stop, as deploy would have it on record."""

import subprocess
import sys
from contextlib import contextmanager

from faceoff import processes
from serving.owned import Owned


@contextmanager
def sleeper(**changes):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        about = {"server": "fake", "pid": process.pid, "started": processes.started(process.pid), "log": "x", **changes}
        yield process, Owned(**about)
    finally:
        process.kill()
        process.wait()
