"""What deploy owns, on disk: a lock that one deploy or undeploy holds at a time, and the processes it started.

artifacts/deploy/state.json is written as soon as a process exists, so that whatever happens to deploy
itself, `undeploy` finds and stops it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from faceoff.errors import CorruptError, FaceoffError, UsageError
from faceoff.store import Store, write_atomic
from serving import containers
from serving.owned import Owned


@contextmanager
def lock(store: Store, verb: str) -> Iterator[None]:
    """Hold the deploy lock. Raises UsageError when another deploy or undeploy holds it.

    It is the kernel's (flock(2)), so it is gone with its holder; servers do not inherit it.
    """
    store.deploy_dir.mkdir(parents=True, exist_ok=True)
    path = store.deploy_dir / "lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UsageError(
                f"{file.read().strip() or 'another deploy'} is at work; wait until it has ended, then {verb} again"
            ) from error
        file.truncate(0)
        file.write(f"{verb} (pid {os.getpid()})")
        file.flush()
        yield


def read(store: Store) -> list[Owned]:
    """The processes of the last deploy; [] when there are none. Raises CorruptError for a file that does not tell."""
    path = store.deploy_dir / "state.json"
    if not path.exists():
        return []
    try:
        return [Owned(**item) for item in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise CorruptError(
            f"{path} is no list of processes as this deploy writes it ({error}); "
            "stop the servers that still run by hand, then delete the file"
        ) from error


def write(store: Store, owned: list[Owned]) -> None:
    """Record the processes that are ours now."""
    write_atomic(store.deploy_dir / "state.json", json.dumps([process.to_dict() for process in owned], indent=2) + "\n")


def stop_all(store: Store, *, forget: bool = False) -> list[str]:
    """Stop every process and container of the last deploy and forget it; returns the names of the servers that still ran.

    What cannot be stopped keeps nothing else from it, and raises FaceoffError at the end, its record kept. `forget`: a stack that
    cannot be taken down is forgotten.
    """
    for gone in (store.endpoints, store.deploy_dir / "parity.json"):  # first: what is left is not what was proven and deployed
        gone.unlink(missing_ok=True)
    stopped: list[str] = []
    problems: list[FaceoffError] = []
    for stop in (_stop_processes, partial(containers.take_down, forget=forget)):
        try:
            stopped += stop(store)
        except FaceoffError as error:
            problems.append(error)
    if len(problems) > 1:
        raise FaceoffError("; ".join(map(str, problems))) from problems[0]
    if problems:
        raise problems[0]
    return list(dict.fromkeys(stopped))  # a pod and the forwarding of its ports are one server


def _stop_processes(store: Store) -> list[str]:
    stopped = [process.server for process in read(store) if process.stop()]
    (store.deploy_dir / "state.json").unlink(missing_ok=True)
    return stopped
