"""loadtest.checks, through the plan of an endpoint of one's own. Nothing listens."""

from pathlib import Path
from typing import Any

import pytest

from faceoff import presets
from faceoff.errors import UsageError
from loadtest import checks, plan
from loadtest.options import Options


@pytest.fixture
def base(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "body").write_text("x")
    roots = {"artifacts": tmp_path / "a", "results": tmp_path / "r"}
    return {"run": "x", "url": "http://127.0.0.1:1/", "body": str(tmp_path / "body"), **roots}


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"scenarios": "closed", "rate": 50.0}, "--rate has no effect on scenario closed"),
        ({"scenarios": "server", "rates": "50"}, "--rates has no effect on scenario server: expected one of sweep"),
        ({"scenarios": "closed", "sweep_connections": "2"}, "--sweep-connections has no effect"),
        (
            {"scenarios": "closed,server", "probes": 3},
            "--probes has no effect on scenario closed, server: expected one of max_qps",
        ),
        ({"scenarios": "server", "percentile": 95.0}, "--percentile has no effect"),
        ({"scenarios": "server", "time_scale": 2.0}, "--time-scale has no effect"),
        ({"scenarios": "offline", "duration": 3.0}, "--duration has no effect on scenario offline"),
        ({"scenarios": "single_stream", "connections": 3}, "--connections has no effect on scenario single_stream"),
        ({"scenarios": "single_stream", "engines": 2}, "scenario single_stream with 2 engines and 1 workers"),
        ({"scenarios": "multi_stream", "engines": 2}, "scenario multi_stream with 2 engines"),
        ({"scenarios": "sweep", "sweep_connections": "4,4"}, "expected each number once"),
        ({"scenarios": "sweep", "sweep_connections": "501"}, "sweep-connections 501: expected 1 to 500"),
        ({"scenarios": "sweep", "sweep_connections": "1,4", "engines": 2}, "at least one for each of the 2 engines"),
        ({"scenarios": "server", "rate": 10.0, "duration": 0.1, "engines": 2}, "1 requests for 2 engines, expected at least 40"),
        ({"scenarios": "max_qps", "slo": 6001.0}, "slo 6001: expected at most 6000 ms for max_qps"),
        ({"scenarios": "closed,closed"}, "SCENARIO=closed,closed: expected one or more different scenarios"),
    ],
)
def test_what_would_not_be_measured_as_asked_is_refused(base: dict[str, Any], choices: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        plan.make(Options(**base, **choices))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("scenarios", "rate", "closed", "opened"),
    [
        ("closed", None, 400, 256),
        ("closed,server", None, 400, 256),
        ("server", 50.0, 4, 400),
        ("server", None, 4, 400),  # the closed loop that only finds the rate keeps the profile's
        ("max_qps", None, 4, 400),
        ("offline", None, 400, 400),
    ],
)
def test_connections_are_those_of_the_scenarios_asked_for(
    base: dict[str, Any], scenarios: str, rate: float | None, closed: int, opened: int
) -> None:
    made = plan.make(Options(**base, scenarios=scenarios, rate=rate, connections=400))
    assert (made.connections, made.open_connections) == (closed, opened)
    usual = plan.make(Options(**base, scenarios=scenarios, rate=rate))
    assert (usual.connections, usual.open_connections) == (4, 256)


def test_a_grid_of_connections_nobody_asked_for_fits_the_window_and_the_engines() -> None:
    assert checks.sweep_connections(presets.load_profile("quick"), 1) == (1, 2, 4, 8, 16, 32, 64)
    assert checks.sweep_connections(presets.load_profile("serving-heavy"), 3) == (4, 8, 16, 32)


def test_a_folder_that_holds_something_else_is_not_replaced(base: dict[str, Any]) -> None:
    folder = base["results"] / "x"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    (folder / "report.html").write_text("")
    plan.make(Options(**base))
    (folder / "compare.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds compare\.json, which would be removed"):
        plan.make(Options(**base))


def test_a_file_is_not_replaced(base: dict[str, Any]) -> None:
    base["results"].mkdir()
    (base["results"] / "x").write_text("precious")
    with pytest.raises(UsageError, match="is a file: expected a folder"):
        plan.make(Options(**base))
