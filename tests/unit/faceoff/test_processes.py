import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from faceoff import cores, processes
from faceoff.errors import StageError

SPAWN = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); time.sleep(600)"


def test_a_process_is_known_again_whatever_its_name_and_not_in_another_boot(tmp_path, monkeypatch):
    named = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') Z 1 2 3'); print(flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", named], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"\n"
    first = processes.started(process.pid)
    assert first == processes.started(process.pid)
    assert first is not None
    assert first.startswith(f"{Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()[19]} ticks")
    with monkeypatch.context() as patch:
        patch.setattr(processes, "BOOT_ID", tmp_path / "boot_id")
        processes.BOOT_ID.write_text("another\n")
        assert processes.started(process.pid) not in (first, None)
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes.started(process.pid) is None  # a zombie
    process.wait()
    process.stdout.close()
    assert processes.started(process.pid) is None


def test_the_last_line_is_the_result():
    assert processes.last_json('noise\n{"status": "ok"}\n') == {"status": "ok"}
    assert processes.last_json("noise") is None
    assert processes.last_json("[1]") is None
    assert processes.last_json("") is None


def test_a_stages_failure_carries_its_words_and_code():
    with pytest.raises(StageError, match="unknown model 'nope'") as caught:
        processes.run_stage("training.train", "--model", "nope")
    assert caught.value.exit_code == 2


def test_a_stage_without_a_json_line_is_a_fault():
    with pytest.raises(StageError, match="no JSON line") as caught:
        processes.run_stage("platform")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("order", [1, -1])  # the one that fails may not be the one that was started first
def test_the_first_failure_stops_the_other_stages(order):
    stages = [("training.train", ["--model", "nope"]), ("http.server", ["0", "--bind", "127.0.0.1"])]
    with pytest.raises(StageError, match="nope"):
        processes.run_stages(stages[::order], timeout_s=60)
    assert not [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]


def test_stages_side_by_side_answer_in_their_order_and_have_one_deadline(tmp_path):
    code = "import json, sys, time; time.sleep(float(sys.argv[1])); print(json.dumps({'status': 'ok', 'slept': sys.argv[1]}))"
    (tmp_path / "sleeper.py").write_text(code)
    env = {"PYTHONPATH": str(tmp_path)}
    found = processes.run_stages([("sleeper", ["0.5"]), ("sleeper", ["0"])], env=env, timeout_s=60)
    assert [answer["slept"] for answer in found] == ["0.5", "0"]
    with pytest.raises(StageError, match="sleeper did not finish within 2 s"):
        processes.run_stages([("sleeper", ["600"]), ("sleeper", ["0"])], env=env, timeout_s=2)
    assert not [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]


def test_stop_tree_stops_descendants_too():
    process = subprocess.Popen([sys.executable, "-c", SPAWN])
    try:
        deadline = time.monotonic() + 30
        while not (children := psutil.Process(process.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert children
        processes.stop_tree(process.pid, grace_s=1.0)
        process.wait(timeout=30)
        assert not children[0].is_running() or children[0].status() == psutil.STATUS_ZOMBIE
    finally:
        process.kill()


def test_the_last_core_is_the_generators():
    split = cores.split({0, 1, 2})
    assert (split.servers, split.generator, split.shared) == ((0, 1), (2,), False)


def test_one_core_is_shared_and_says_so():
    split = cores.split({5})
    assert (split.servers, split.generator, split.shared) == ((5,), (5,), True)


def test_usable_cores_follow_the_affinity():
    assert processes.usable_cores() == len(os.sched_getaffinity(0))
