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

from faceoff.errors import UsageError
from faceoff.store import Store, write_atomic
from serving import containers
from serving.lifecycle import Owned


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
    """The processes of the last deploy; [] when there are none."""
    path = store.deploy_dir / "state.json"
    if not path.exists():
        return []
    return [Owned(**item) for item in json.loads(path.read_text(encoding="utf-8"))]


def write(store: Store, owned: list[Owned]) -> None:
    """Record the processes that are ours now."""
    write_atomic(store.deploy_dir / "state.json", json.dumps([process.to_dict() for process in owned], indent=2) + "\n")


def stop_all(store: Store) -> list[str]:
    """Stop every container and process of the last deploy and forget it; returns the names of those that still ran."""
    stopped = containers.take_down(store)
    stopped += [process.server for process in read(store) if process.stop()]
    (store.deploy_dir / "state.json").unlink(missing_ok=True)
    store.endpoints.unlink(missing_ok=True)
    return stopped
