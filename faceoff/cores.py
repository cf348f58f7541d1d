"""Which cores the servers get and which one is the load generator's."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class CoreSplit:
    """With two cores or more nothing is shared: the generator has the last one (or the last few), the servers the rest."""

    servers: tuple[int, ...]
    generator: tuple[int, ...]

    @property
    def shared(self) -> bool:
        """True on a one-core machine, where every latency includes the generator's own work."""
        return bool(set(self.servers) & set(self.generator))

    def to_dict(self) -> dict[str, object]:
        """Plain data for a record."""
        return {**asdict(self), "shared": self.shared}


def split(cores: set[int] | None = None, *, generators: int = 1) -> CoreSplit:
    """Split the cores this process may use (sched_getaffinity(2)) between servers and generator.

    `generators` processes get a core each where that leaves one for the servers.
    """
    usable = sorted(cores if cores is not None else os.sched_getaffinity(0))
    if len(usable) < 2:
        return CoreSplit(servers=tuple(usable), generator=tuple(usable))
    num = min(generators, len(usable) - 1)
    return CoreSplit(servers=tuple(usable[:-num]), generator=tuple(usable[-num:]))
