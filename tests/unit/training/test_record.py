import subprocess
import sys

from tests.conftest import ROOT


def test_peak_memory_is_the_process_own_and_not_that_of_the_one_that_started_it():
    held = bytearray(400 << 20)
    code = (
        "from training.record import peak_rss_bytes as peak; before = peak(); held = bytearray(100 << 20); print(before, peak())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before < after < len(held)
    assert after - before > 90 << 20
