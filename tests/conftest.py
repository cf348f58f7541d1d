"""Fixtures that several suites share. Nothing here is a stand-in: stages run as the processes a user runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faceoff.store import Store

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Make SIGINT arrive in what the tests start (a shell's background job, as CI may be, has it ignored), and forks safe."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # grpcio starts its threads again in every forked child, whose descriptors are being closed before its exec: it may abort
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished command: exit code, its JSON line, everything it said."""

    code: int
    result: dict[str, Any]
    stdout: str
    stderr: str


def run_module(module: str, *args: str, env: dict[str, str] | None = None, timeout_s: float = 300) -> Run:
    """Run `python -m module args…` from the project's root; its last line of stdout must be JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    assert lines, f"{module} printed nothing on stdout; stderr: {done.stderr[-2000:]}"
    return Run(code=done.returncode, result=json.loads(lines[-1]), stdout=done.stdout, stderr=done.stderr)


@pytest.fixture(scope="session")
def run() -> Callable[..., Run]:
    return run_module


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A trained, exported and verified `cnn`, made once for all tests; tests that change it copy it."""
    root = tmp_path_factory.mktemp("exported")
    store = Store(artifacts=root / "artifacts", results=root / "results")
    for module in ("training.train", "export.export"):
        done = run_module(module, *roots(store), timeout_s=600)
        assert done.code == 0, done.stderr[-3000:]
    return store


@pytest.fixture(scope="session")
def deployed(exported: Store) -> Iterator[Store]:
    """Both servers, really running on free ports, stopped at the end whatever happens."""
    try:
        done = run_module("serving.deploy", "--ports", "free", "--servers", "torchserve,tfserving-embedded", *roots(exported))
        assert done.code == 0, done.stderr[-3000:]
        yield exported
    finally:
        run_module("serving.undeploy", *roots(exported))


def roots(store: Store) -> tuple[str, ...]:
    """The options that point a command at a store."""
    return ("--artifacts", str(store.artifacts), "--results", str(store.results))
