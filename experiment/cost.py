"""What a million inferences cost, from a price list that the user gives: no price is known here.

    currency: EUR
    per_core_hour: 0.04       # of one of the servers' cores

A server that answers R requests a second on N cores makes a million of them in 1e6 / R seconds and pays N cores for that
long. R is the closed-loop throughput of its VALID visits: the cost at full use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.results import Done
from faceoff.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Prices:
    """The price list."""

    currency: str
    per_core_hour: float

    def per_million(self, throughput_rps: float, cores: int) -> float:
        """Of a server that answers so many requests a second on so many cores."""
        return self.per_core_hour * cores * 1e6 / throughput_rps / 3600


def read(path: Path) -> Prices:
    """Raises UsageError for a file that is not a price list."""
    import yaml

    from faceoff import strict_yaml

    try:
        data = strict_yaml.load(path.read_text(encoding="utf-8"))
        prices = Prices(currency=str(data["currency"]), per_core_hour=float(data["per_core_hour"]))
        if set(data) != {"currency", "per_core_hour"} or not 0 < prices.per_core_hour < math.inf:
            raise ValueError("other entries, or a price that is not above 0")
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"PRICES={path}: {reason}; expected `currency: EUR` and `per_core_hour: 0.04`") from error
    return prices


def table(prices: Prices, done: Sequence[Done], protocols: Sequence[str]) -> list[dict[str, Any]]:
    """The cost of each server, tuning and protocol that has a VALID throughput and known cores; the mean over its visits."""
    found: dict[tuple[str, str, str], list[float]] = {}
    cores: dict[str, int] = {}
    for one in done:
        if one.visited.facts["cores"] is None:  # it could not be read while it ran
            continue
        cores[one.visit.server] = len(one.visited.facts["cores"])
        for protocol in protocols:
            closed = one.visited.find("closed", protocol)
            if closed is not None and closed["valid"]:
                found.setdefault((one.visit.server, one.visit.tuning, protocol), []).append(closed["throughput_rps"])
    return [
        {
            "server": server,
            "tuning": tuning,
            "protocol": protocol,
            "cores": cores[server],
            "throughput_rps": (mean := sum(values) / len(values)),
            "per_million": prices.per_million(mean, cores[server]),
            "currency": prices.currency,
        }
        for (server, tuning, protocol), values in sorted(found.items())
    ]
