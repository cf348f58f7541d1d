"""Child processes: a stage run to its end, a child that dies with us, a tree that is stopped by its pid."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceoff.errors import StageError

ROOT = Path(__file__).resolve().parent.parent
_PR_SET_PDEATHSIG = 1


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Our environment for a child: the project's root importable from any working folder."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(extra or {})}


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0))


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this child when its parent dies, however that happens (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(kw_only=True)
class Stage:
    """A stage running as `python -m module …`; its stderr is ours, its stdout ends in one JSON line."""

    module: str
    process: subprocess.Popen[str]

    def wait(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The JSON line of a stage that ended well. Raises StageError with the stage's own words otherwise."""
        try:
            stdout, _ = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            self.stop()
            raise StageError(f"{self.module} did not finish within {timeout_s:.0f} s") from error
        result = last_json(stdout)
        code = self.process.returncode
        if code != 0 or result is None:
            said = (result or {}).get("error") or f"{self.module} ended with exit code {code} and no JSON line"
            details = {name: value for name, value in (result or {}).items() if name not in ("status", "error")}
            raise StageError(str(said), exit_code=code, details=details)
        return result

    def stop(self) -> None:
        """Stop the stage and everything it started."""
        stop_tree(self.process.pid)
        self.process.communicate()  # reaps it and closes its pipe


def start_stage(module: str, *args: str, env: dict[str, str] | None = None, python: Path | None = None) -> Stage:
    """Start `python -m module args…`, in another environment when `python` is its interpreter; it dies with us."""
    process = subprocess.Popen(
        [str(python or sys.executable), "-m", module, *args],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment(env),
        preexec_fn=die_with_parent,  # noqa: PLW1509  stages are started before any thread
    )
    return Stage(module=module, process=process)


def run_stage(module: str, *args: str, env: dict[str, str] | None = None, timeout_s: float | None = None) -> dict[str, Any]:
    """Run one stage to its end; returns its JSON line. Raises StageError."""
    return run_stages([(module, args)], env=env, timeout_s=timeout_s)[0]


def run_stages(
    stages: Sequence[tuple[str, Sequence[str]]], *, env: dict[str, str] | None = None, timeout_s: float | None = None
) -> list[dict[str, Any]]:
    """Run stages side by side (never for anything that is timed); the first failure stops the others."""
    running = [start_stage(module, *args, env=env) for module, args in stages]
    try:
        return [stage.wait(timeout_s) for stage in running]
    finally:
        for stage in running:
            if stage.process.poll() is None:
                stage.stop()


def last_json(stdout: str) -> dict[str, Any] | None:
    """The JSON object on the last line, or None."""
    lines = stdout.strip().splitlines()
    try:
        result = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return result if isinstance(result, dict) else None


def stop_tree(pid: int, *, grace_s: float = 10.0) -> None:
    """SIGTERM to a process, then SIGKILL to what is left of it and of its descendants after `grace_s`."""
    import psutil

    try:
        parent = psutil.Process(pid)
        tree = [parent, *parent.children(recursive=True)]
        parent.terminate()
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs(tree, timeout=grace_s)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=5.0)
