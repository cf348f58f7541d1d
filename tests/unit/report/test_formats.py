from __future__ import annotations

import math

import pytest

from report import formats


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (0.0412345, "0.0412"),
        (1.2345, "1.23"),
        (45.67, "45.7"),
        (1234.5, "1\u202f234"),
        (-3.0, "-3.00"),
        (math.inf, "∞"),
        (math.nan, "–"),
    ],
)
def test_number(value, shown):
    assert formats.number(value) == shown


def test_units():
    assert formats.milliseconds(0.4123) == "0.412\u00a0ms"
    assert formats.milliseconds(12_345) == "12.3\u00a0s"
    assert formats.size(0) == "0 B" and formats.size(1536) == "1.50 KiB" and formats.size(8 << 30) == "8.00 GiB"
    assert formats.percent(0.98611) == "98.6\u202f%"
    assert formats.small(1.4e-6) == "1.4\u00a0×\u00a010⁻⁶" and formats.small(0.0) == "0 (exact)"
    assert formats.interval(1, None) == "1.00–∞"
    assert formats.times(0.5, 3.4) == "0.500–3.40" and formats.times(2e-7, 3e29) == "<0.001–>1\u202f000"
    assert formats.noise_floor(0.2) == "20.0\u202f%" and formats.noise_floor(723044.1) == ">1000\u202f%"
    assert formats.noise_floor(None) == "–"
    assert formats.plural(1, "window") == "1 window" and formats.plural(2, "window") == "2 windows"
    assert formats.listed(["a", "b", "c"]) == "a, b and c" and formats.listed([]) == "–"
