"""The rates of a load test on its page: sweep, max_qps, goodput and the client's own cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from faceoff.errors import CorruptError
from report import compose
from report import records as report_records
from report.page import Heading, Notice, Page, Plot, Section, Table, plots
from tests.fakes import records

RATES = (100.0, 300.0, 500.0)
SEARCH = {
    "slo_ms": 20.0,
    "percentile": 99.0,
    "found": 400.0,
    "max_qps": 396.0,
    "confirmed": True,
    "confirmations": [
        {"rate": 400.0, "num_requests": 1500, "num_over": 40, "refuted": True},
        {"rate": 396.0, "num_requests": 1500, "num_over": 9, "refuted": False},
    ],
    "bracket": [396.0, 400.0],
    "points": [{"flags": []}, {"flags": ["late"]}, {"flags": []}],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return records.write_run(tmp_path)


def point(run: Path, number: int, rate: float) -> dict[str, Any]:
    """A point of a sweep of a server that answers 450 requests a second at most."""
    m = records.measurement(run, "torchserve", "rest", "json", f"sweep-{number}", min(rate, 450.0), 5.0, number)
    return {**m, "scenario": "sweep", "load": {"kind": "rate", "value": rate}, "throughput_rps": min(rate, 450.0)}


def sweep(run: Path, *, alone: bool = False) -> None:
    found = [point(run, number, rate) for number, rate in enumerate(RATES)]
    records.edit(run / "summary.json", lambda s: s.update(measurements=found if alone else [*s["measurements"], *found]))


def page_of(run: Path) -> Page:
    return compose.page(report_records.load(run.name, run))


def rates_of(page: Page) -> Section:
    return next(section for section in page.sections if section.id == "rates")


def table(section: Section, words: str) -> Table:
    return next(block for block in section.blocks if isinstance(block, Table) and words in block.caption)


def test_goodput_and_what_encoding_and_decoding_cost_stand_beside_each_measurement(run: Path) -> None:
    section = rates_of(page_of(run))
    assert [block for block in section.blocks if isinstance(block, Heading | Plot)] == []  # nothing was swept or searched
    costs = table(section, "Goodput")
    assert len(costs.rows) == len(json.loads((run / "summary.json").read_text())["measurements"])
    assert {(row[3].text, row[4].text) for row in costs.rows} == {("31.0", "12.0")}
    assert {row[2].note for row in costs.rows} == {"within 100 ms"}


def test_the_generators_capacity_is_quoted(run: Path) -> None:
    validity = next(section for section in page_of(run).sections if section.id == "validity")
    client = table(validity, "The client's side")
    at = [column.title for column in client.columns].index("Null server, requests/s")
    assert all(len(row) == len(client.columns) for row in client.rows)
    assert {row[at].text.replace("\u202f", "").replace("\u2009", "").replace(" ", "") for row in client.rows} == {"9100"}


def test_a_sweep_is_one_curve_and_its_knee_is_named(run: Path) -> None:
    sweep(run)
    page = page_of(run)
    drawn = {plot.id: plot for plot in plots(page)}
    assert {name for name in drawn if "sweep" in name} == {"plot-sweep"}  # no bars or percentiles for each of its points
    assert "plot-throughput-closed" in drawn
    lines = [trace for trace in drawn["plot-sweep"].figure["data"] if trace["mode"] == "lines+markers"]
    assert len(lines) == 2  # p50 and p99
    told = table(rates_of(page), "Every point")
    assert [row[1].note for row in told.rows] == ["", "", "beyond the knee"]


def test_an_invalid_point_is_in_the_table_and_not_on_the_curve(run: Path) -> None:
    sweep(run, alone=True)
    records.edit(run / "summary.json", lambda s: s["measurements"][2].update(valid=False, invalid_reasons=["late"]))
    page = page_of(run)
    assert [section.id for section in page.sections if section.id in ("throughput", "latency", "rates")] == ["rates"]
    (plot,) = [plot for plot in plots(page) if plot.id == "plot-sweep"]
    assert plot.label.count(" at ") == 2 * 2
    assert [row[-1].text for row in table(rates_of(page), "Every point").rows] == ["VALID", "VALID", "INVALID"]

    records.edit(run / "summary.json", lambda s: [m.update(valid=False, invalid_reasons=["late"]) for m in s["measurements"]])
    notices = [block.title for block in rates_of(page_of(run)).blocks if isinstance(block, Notice)]
    assert notices == ["No point of the sweep is VALID"]


def test_a_search_says_what_it_found_and_how_sure_that_is(run: Path) -> None:
    records.edit(run / "summary.json", lambda s: s["measurements"][5].update(search=SEARCH))
    (row,) = table(rates_of(page_of(run)), "max_qps").rows
    assert [cell.text for cell in row[1:6]] == ["p99 ≤ 20 ms", "396", "396, 400", "3", "yes"]
    assert row[4].note == "1 flagged"
    assert (row[5].note[:5], row[5].note.split("SLO")[1]) == ("9 of ", ", after 1 refuted")

    records.edit(run / "summary.json", lambda s: s["measurements"][5].update(search={"bracket": [None, None]}))
    with pytest.raises(CorruptError, match="make loadtest"):
        page_of(run)
