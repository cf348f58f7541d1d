"""A process that deploy started, as state.json knows it, so that `undeploy` stops exactly that one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from faceoff import processes


@dataclass(frozen=True, kw_only=True)
class Owned:
    """A process of ours: the pid alone could be somebody else's by now."""

    server: str
    pid: int
    started: str  # `processes.started`; "" of a process that had ended before it could be asked, or is none of this machine's
    log: str
    contained: bool = False  # in a container, which its stack stops

    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return bool(self.started) and processes.started(self.pid) == self.started

    def stop(self) -> bool:
        """Stop it and its descendants; False when it was gone already, or is not ours to stop."""
        if self.contained or not self.alive():
            return False
        processes.stop_tree(self.pid)
        return True

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the state file."""
        return asdict(self)
