"""Numbers as people read them: sensible digits, units, thin spaces. Every function takes None and says "–"."""

from __future__ import annotations

import math

from faceoff import verdict

NONE = "–"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits, never an exponent: 0.0412, 1.23, 45.6, 1 234."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 9)}f}".replace(",", "\u202f")


def count(value: int | None) -> str:
    """An exact whole number: 1 500."""
    return NONE if value is None else f"{value:,}".replace(",", "\u202f")


def small(value: float | None) -> str:
    """A tiny difference in powers of ten: 1.4 × 10⁻⁶; "0 (exact)" for none at all."""
    if value is None or math.isnan(value):
        return NONE
    if value == 0:
        return "0 (exact)"
    if math.isinf(value):
        return "∞"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}\u00a0×\u00a010{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def milliseconds(value: float | None) -> str:
    """A duration given in ms, with its unit: 0.412 ms, 12.3 ms, 12.3 s."""
    if value is None:
        return NONE
    return f"{number(value / 1000)}\u00a0s" if abs(value) >= 10_000 else f"{number(value)}\u00a0ms"


def seconds(value: float | None) -> str:
    """A duration given in s, with its unit."""
    return NONE if value is None else milliseconds(value * 1000) if value < 1 else f"{number(value)} s"


def size(value: float | None) -> str:
    """Bytes in binary units: 1.2 MiB."""
    if value is None:
        return NONE
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:
            return f"{number(value)} {unit}" if unit != "B" else f"{value:.0f} B"
        value /= 1024
    return f"{number(value)} GiB"


def percent(share: float | None, decimals: int = 1) -> str:
    """A share of 1 as a percentage: 98.6 %."""
    return NONE if share is None else f"{share * 100:.{decimals}f}\u202f%"


def interval(low: float | None, high: float | None) -> str:
    """`low–high`, with "∞" where there is no upper limit."""
    if low is None and high is None:
        return NONE
    return f"{number(low)}–{number(high) if high is not None else '∞'}"


def times(low: float, high: float) -> str:
    """The interval of a ratio; an end that is farther than `verdict.FARTHEST` from 1 is only said to be: <0.001–3.4."""
    least, most = 1 / verdict.FARTHEST, verdict.FARTHEST
    return f"{f'<{least:g}' if low < least else number(low)}–{f'>{number(most)}' if high > most else number(high)}"


def noise_floor(share: float | None) -> str:
    """As a percentage, up to where its digits say something."""
    most = verdict.FARTHEST / 100
    return f">{percent(most, 0)}" if share is not None and share > most else percent(share)


def plural(amount: int, noun: str) -> str:
    """`1 window`, `3 windows`."""
    return f"{count(amount)} {noun}{'' if amount == 1 else 's'}"


def listed(words: list[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else NONE
