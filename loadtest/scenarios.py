"""What kinds of load there are, and what each of them means for windows, schedules and rules.

MLPerf's four: `single_stream` (one request after the other), `multi_stream` (the same with N samples a query), `server`
(Poisson arrivals), `offline` (everything at once). Ours: `closed` (N connections), `constant` rate, `step` and `ramp`
(up to the rate), `burst` (a fifth of each second at five times the rate), `trace` (moments from a file), `soak` (Poisson for
a long time). Two search: `max_qps` (the highest Poisson rate that meets the SLO) and `sweep` (a grid of rates).
"""

from __future__ import annotations

from dataclasses import dataclass

MULTI_STREAM_ROWS = 8  # MLPerf's samples a query
OFFLINE_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One kind of load.

    `loop` is closed or open. `windows` that are alike can be repeated alone; without them the schedule is one piece. `rate` says
    that the load is a number of requests a second. `searches`: it measures more than one load.
    """

    name: str
    loop: str
    windows: bool = True
    rate: bool = True
    searches: bool = False
    rows: int = 1  # in one request, where nothing else is asked for

    @property
    def closed(self) -> bool:
        """Whether the next request waits for an answer."""
        return self.loop == "closed"

    @property
    def steady(self) -> bool:
        """Whether its p50s must come to rest: not where the load changes or the SLO is the test (search_rules.py)."""
        return self.windows and self.name != "max_qps"


# The place of a name is a word of its windows' seeds: new ones are added at the end.
_ALL = (
    Scenario(name="closed", loop="closed", rate=False),
    Scenario(name="server", loop="open"),
    Scenario(name="single_stream", loop="closed", rate=False),
    Scenario(name="multi_stream", loop="closed", rate=False, rows=MULTI_STREAM_ROWS),
    Scenario(name="offline", loop="open", windows=False, rate=False, rows=OFFLINE_ROWS),
    Scenario(name="constant", loop="open"),
    Scenario(name="step", loop="open", windows=False),
    Scenario(name="ramp", loop="open", windows=False),
    Scenario(name="burst", loop="open", windows=False),
    Scenario(name="trace", loop="open", windows=False, rate=False),
    Scenario(name="soak", loop="open"),
    Scenario(name="max_qps", loop="open", searches=True),
    Scenario(name="sweep", loop="open", searches=True),
)
BY_NAME = {scenario.name: scenario for scenario in _ALL}
NAMES = tuple(BY_NAME)
DEFAULT = ("closed", "server")


def load_kind(name: str) -> str:
    """What the load's value is in a record: connections or rate."""
    return "connections" if BY_NAME[name].closed or name == "offline" else "rate"
