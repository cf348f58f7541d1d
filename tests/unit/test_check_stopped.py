import json
import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.static import check_stopped


@pytest.fixture
def run(tmp_path):
    """A run whose one server is the process and the port that a test gives it."""

    def write(*, pids=(), port=1):
        (tmp_path / "records").mkdir(exist_ok=True)
        endpoint = {"pids": list(pids), "rest_url": f"http://127.0.0.1:{port}", "grpc_target": "", "metrics_url": None}
        (tmp_path / "records" / "endpoints.json").write_text(json.dumps([{**endpoint, "management_url": None}]))
        return tmp_path

    return write


def named(run):
    """The pids that are named; other programs of this checkout may run beside the tests."""
    return {int(line.split()[1]) for line in check_stopped.left(run) if line.startswith("pid ")}


@pytest.fixture
def sleeper():
    """Starts a process that waits, in a folder and with words in its command line."""
    started = []

    def start(cwd, *words):
        code = "import time; print(flush=True); time.sleep(60)"
        process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=cwd, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_recorded_process_that_runs_is_named(run, sleeper, tmp_path):
    process = sleeper(tmp_path)
    assert process.pid in named(run(pids=[process.pid]))
    process.kill()
    assert process.wait() != 0
    assert process.pid not in named(run(pids=[process.pid]))


def test_a_program_of_ours_is_one_only_in_this_checkout(run, sleeper, tmp_path):
    elsewhere, here = sleeper(tmp_path, "loadtest.engine"), sleeper(ROOT, "loadtest.engine")
    assert here.pid in named(run())
    assert elsewhere.pid not in named(run())


def test_a_held_port_is_named(run, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert check_stopped.main([str(run(port=port))]) == 1
        assert f"port {port} is held" in capsys.readouterr().err
    assert f"port {port} is held" not in check_stopped.left(run(port=port))
