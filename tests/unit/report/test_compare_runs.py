"""Two runs compared: a slower server is a regression, the same one is none, and what is not comparable is not compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from report import compare_runs
from tests.fakes import comparison, records


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with four runs: before, again (nothing changed), slower (TorchServe by 30%), damaged later by the tests."""
    results = tmp_path_factory.mktemp("results")
    comparison.write_run(results, "before", seed=1)
    comparison.write_run(results, "again", seed=2)
    comparison.write_run(results, "slower", seed=3, slower={"torchserve": 1.3})
    return results


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """The records only: raw rows are not read here."""
    for run in made.iterdir():
        (tmp_path / run.name).mkdir()
        for file in ("summary.json", "compare.json"):
            shutil.copy(run / file, tmp_path / run.name / file)
    return tmp_path


def run(results: Path, capsys: pytest.CaptureFixture[str], a: str, b: str) -> tuple[int, dict[str, Any]]:
    code = compare_runs.main(["--a", a, "--b", b, "--results", str(results)])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_slower_server_fails_the_build_and_only_it(results, capsys):
    code, line = run(results, capsys, "before", "slower")
    assert (code, line["status"]) == (1, "fault") and "regressions beyond the noise floor" in line["error"]
    assert line["regressions"] and line["improvements"] == []
    assert all("TorchServe" in sentence for sentence in line["regressions"])
    throughput = next(s for s in line["regressions"] if "throughput" in s)
    assert (
        throughput.startswith("before is faster: before's throughput is 1.")
        and " slower's [REST (json), TorchServe, " in throughput
    )
    for name in ("report", "markdown"):
        text = Path(line[name]).read_text(encoding="utf-8")
        assert "slower against before" in text and "TorchServe, as installed" in text


def test_the_other_way_round_it_is_an_improvement(results, capsys):
    code, line = run(results, capsys, "slower", "before")
    assert (code, line["status"]) == (0, "ok")
    assert line["improvements"] and line["regressions"] == []


def test_a_run_like_it_has_no_regression(results, capsys):
    code, line = run(results, capsys, "before", "again")
    assert (code, line["status"], line["regressions"]) == (0, "ok", [])
    assert len(line["no_difference"]) + len(line["cannot_tell"]) == 40  # two servers, two tunings, two protocols, five figures
    assert line["no_difference"], "nothing was shown to be equal: the test would pass for any two runs"


def test_the_noise_floor_is_that_of_both_runs(results, capsys):
    def unsteady(summary):
        for m in summary["measurements"]:
            if m["visit"].endswith("-again") and m["scenario"] == "closed":
                m["throughput_rps"] *= 2.0

    records.edit(results / "before" / "summary.json", unsteady)
    code, line = run(results, capsys, "before", "slower")
    assert code == 1 and not any("throughput" in sentence for sentence in line["regressions"])


def test_rates_that_differ_are_not_compared(results, capsys):
    def faster_arrivals(summary):
        for m in summary["measurements"]:
            if m["scenario"] == "server":
                m["load"]["value"] *= 1.2

    records.edit(results / "again" / "summary.json", faster_arrivals)
    code, line = run(results, capsys, "before", "again")
    assert code == 0
    assert (
        "p99 latency of TorchServe [rest (json), default]: 200 requests/s in before, 240 requests/s in again"
        in line["not_compared"]
    )
    assert len(line["not_compared"]) == 24


def test_an_invalid_run_or_another_machine_is_not_believed(results, capsys):
    records.edit(results / "slower" / "compare.json", lambda r: r.update(invalid_reasons=["cores differ"]))
    records.edit(results / "slower" / "summary.json", lambda s: s["environment"]["machine"].update(cpu="another"))
    code, line = run(results, capsys, "before", "slower")
    assert (code, line["status"]) == (3, "invalid")
    assert "run slower is INVALID: cores differ" in line["error"] and "two machines: cpu" in line["error"]
    assert line["regressions"]


def test_what_is_no_comparison_is_the_users_mistake(results, capsys):
    (results / "again" / "compare.json").unlink()
    code, line = run(results, capsys, "before", "again")
    assert code == 2 and "expected a run of make compare" in line["error"]
    assert "two runs" in run(results, capsys, "before", "before")[1]["error"]
    assert run(results, capsys, "", "before")[0] == 2
    assert run(results, capsys, "before", "nowhere")[0] == 2
    records.edit(results / "slower" / "compare.json", lambda r: r.pop("visits"))
    code, line = run(results, capsys, "before", "slower")
    assert code == 2 and "compare.json has no 'visits'" in line["error"]
    assert not list(results.glob("*/against-*"))
