"""loadtest.histogram."""

from pathlib import Path

import numpy as np

from loadtest import histogram


def test_the_distribution_reads_back(tmp_path: Path) -> None:
    histogram.write(tmp_path / "a.hgrm", np.arange(1, 1001)[::-1] / 10)
    lines = (tmp_path / "a.hgrm").read_text().splitlines()
    assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    rows = [[float(part) for part in line.split()] for line in lines[2:-2]]
    values, fractions, counts, _ = zip(*rows, strict=True)
    assert list(values) == sorted(values) and list(fractions) == sorted(fractions)
    assert (values[0], values[-1], fractions[-1], counts[-1]) == (0.1, 100.0, 1.0, 1000)
    assert dict(zip(fractions, values, strict=True))[0.5] == 50.0
    assert "Total count    =         1000" in lines[-1]


def test_nothing_and_one() -> None:
    assert histogram.text(np.zeros(0)).endswith("Total count    =            0]\n")
    assert "inf" in histogram.text(np.array([3.0]))
