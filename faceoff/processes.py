"""Processes: a stage run to its end, a child that dies with us, a tree that is stopped by its pid, one that is known again."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceoff.errors import StageError

ROOT = Path(__file__).resolve().parent.parent
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PR_SET_PDEATHSIG = 1
_TURN_S = 0.1  # that each of several stages is listened to in turn


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Our environment for a child: the project's root importable from any working folder."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(extra or {})}


def usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0))


def die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """For `preexec_fn`: the kernel sends this child `by` when its parent dies, however that happens (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, by)


@dataclass(kw_only=True)
class Stage:
    """A stage running as `python -m module …`; its stderr is ours, its stdout ends in one JSON line."""

    module: str
    process: subprocess.Popen[str]

    def wait(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The JSON line of a stage that ended well. Raises StageError with the stage's own words otherwise."""
        result = self.poll(timeout_s)
        if result is None:
            self.stop()
            raise StageError(f"{self.module} did not finish within {timeout_s:.0f} s")
        return result

    def poll(self, timeout_s: float | None) -> dict[str, Any] | None:
        """`wait` for at most `timeout_s`, reading what the stage writes; None when it is not done then."""
        try:
            stdout, _ = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None
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
    """Run stages side by side (never for anything that is timed); the first failure, whichever stage's, stops the others."""
    running = [start_stage(module, *args, env=env) for module, args in stages]
    try:
        if len(running) == 1:
            return [running[0].wait(timeout_s)]
        results: dict[int, dict[str, Any]] = {}
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while len(results) < len(running):
            for index, stage in enumerate(running):
                if index not in results and (result := stage.poll(_TURN_S)) is not None:
                    results[index] = result
            if deadline is not None and time.monotonic() > deadline and len(results) < len(running):
                late = ", ".join(stage.module for index, stage in enumerate(running) if index not in results)
                raise StageError(f"{late} did not finish within {timeout_s:.0f} s")
        return [results[index] for index in range(len(running))]
    finally:
        for stage in running:
            if stage.process.stdout is not None and not stage.process.stdout.closed:  # not read to its end
                stage.stop()


def last_json(stdout: str) -> dict[str, Any] | None:
    """The JSON object on the last line, or None."""
    lines = stdout.strip().splitlines()
    try:
        result = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return result if isinstance(result, dict) else None


def started(pid: int) -> str | None:
    """When a process was started, as only the kernel says it; with the pid it tells one process from every other (proc(5)).

    In ticks of a boot and the name of that boot: a time of day would move with every step of the clock. None of a process that
    has ended, a zombie's included.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything; these begin with the third, the state
    return None if fields[0] in "ZX" else f"{fields[19]} ticks after boot {BOOT_ID.read_text(encoding='ascii').strip()}"


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
