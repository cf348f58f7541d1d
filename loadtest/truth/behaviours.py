"""What the servers of known truth do, said twice: request by request for the server, as arrays for the truth.

Nothing really works for the service time: a server computes the moment at which a request is due from the moment at which
it came, and answers then. So its model holds exactly, whatever the machine does; how late it was is in its log.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
KINDS = ("null", "fixed", "stalls", "queue", "drops", "wrong", "closes")
STRIKES = ("drops", "wrong", "closes")
STRIKE_EVERY = 50
MS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """One server. Times in ms.

    null    answers at once                         drops   every 50th request never gets an answer
    fixed   each answer takes `service_ms`          wrong   every 50th answer is wrong
    stalls  as fixed, but frozen for the first      closes  every 50th request ends its connection without an answer
            `stall_ms` of every `period_ms`
    queue   one at a time, first come, first served, `service_ms` each (M/D/1 under Poisson arrivals)
    """

    kind: str
    service_ms: float = 0.0
    stall_ms: float = 0.0
    period_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"behaviour {self.kind!r}: expected one of {KINDS}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the server's command line."""
        return asdict(self)


class Model:
    """When each answer is due, request by request."""

    def __init__(self, behaviour: Behaviour, epoch_ns: int) -> None:
        self._kind, self._epoch_ns = behaviour.kind, epoch_ns
        self._service_ns = round(behaviour.service_ms * MS)
        self._stall_ns, self._period_ns = round(behaviour.stall_ms * MS), round(behaviour.period_ms * MS)
        self._busy_until = 0

    def due(self, came_ns: int) -> int:
        """The moment of the answer to a request that came now; moments must not decrease."""
        if self._kind == "queue":
            self._busy_until = max(self._busy_until, came_ns) + self._service_ns
            return self._busy_until
        due = came_ns + self._service_ns
        if self._kind == "stalls":
            into = (due - self._epoch_ns) % self._period_ns
            if into < self._stall_ns:
                due += self._stall_ns - into
        return due


def due_ns(behaviour: Behaviour, arrivals_ns: Ints, epoch_ns: int = 0) -> Ints:
    """`Model.due` of every arrival (ascending), for a server with nothing else to do."""
    service_ns = round(behaviour.service_ms * MS)
    if behaviour.kind == "queue":
        # Lindley's recursion, unrolled: due[i] = (i + 1) s + max over j <= i of (a[j] - j s)
        number = np.arange(len(arrivals_ns), dtype=np.int64)
        return np.asarray((number + 1) * service_ns + np.maximum.accumulate(arrivals_ns - number * service_ns))
    due = arrivals_ns + service_ns
    if behaviour.kind == "stalls":
        stall_ns, period_ns = round(behaviour.stall_ms * MS), round(behaviour.period_ms * MS)
        into = (due - epoch_ns) % period_ns
        due = np.where(into < stall_ns, due + stall_ns - into, due)
    return np.asarray(due)
