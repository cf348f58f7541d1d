"""Who is who: one name, colour, dash and marker for each framework and server, in every table and plot.

Colours are Okabe and Ito's, which people with the common colour-vision deficiencies tell apart; nothing is
told by colour alone. `tfserving-embedded` keeps that exact name: it is not TensorFlow Serving.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from faceoff import verdict

VERMILLION, BLUE, GREEN, PURPLE, ORANGE, SKY = "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"

FRAMEWORKS = {"torch": "PyTorch", "tf": "TensorFlow"}
SERVERS = verdict.SERVERS
SCENARIOS = {"server": "open loop", "closed": "closed loop", "max_qps": "highest rate within the SLO"}

_LOOKS = {
    "torch": (VERMILLION, "solid", "circle"),
    "tf": (BLUE, "dash", "square"),
    "torchserve": (VERMILLION, "solid", "circle"),
    "tfserving": (BLUE, "solid", "square"),
    "tfserving-embedded": (GREEN, "solid", "diamond"),
}
_SPARE = ((PURPLE, "solid", "triangle-up"), (ORANGE, "solid", "cross"), (SKY, "solid", "star"))
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True, kw_only=True)
class Series:
    """How one line, bar or group of points looks, and what it is called."""

    key: str
    label: str
    color: str
    dash: str
    symbol: str


def framework(key: str) -> Series:
    """The look of a framework."""
    return _series(key, FRAMEWORKS.get(key, key))


def server(key: str, precision: str = "") -> Series:
    """The look of a server; a lower precision than float32 goes with its name wherever that stands."""
    look = _series(key, SERVERS.get(key, key))
    return look if precision in ("", "float32") else replace(look, label=f"{look.label} ({precision})")


def rank(server_key: str) -> tuple[int, str]:
    """The order in which servers stand everywhere: TorchServe first, unknown ones last."""
    known = list(SERVERS)
    return (known.index(server_key) if server_key in known else len(known), server_key)


def way(protocol: str, encoding: str) -> str:
    """What must be equal for two measurements to be comparable: `REST · json`, `gRPC · tensor`."""
    return f"{verdict.PROTOCOLS.get(protocol, protocol)} · {encoding}"


def variant(base: Series, key: str, label: str, index: int) -> Series:
    """`base` with another dash, for the `index`th protocol and encoding of one server."""
    symbol = base.symbol if index == 0 else f"{base.symbol}-open" if index == 1 else "x"
    return Series(key=key, label=label, color=base.color, dash=_DASHES[index % len(_DASHES)], symbol=symbol)


def _series(key: str, label: str) -> Series:
    # An unknown name gets the same spare look in every run: it depends on the name only.
    color, dash, symbol = _LOOKS.get(key) or _SPARE[sum(key.encode()) % len(_SPARE)]
    return Series(key=key, label=label, color=color, dash=dash, symbol=symbol)
