"""report.benchmark: a comparison as a page for benchmarks/."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from report import benchmark
from report import records as report_records
from tests.fakes import comparison, records


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return comparison.write_run(tmp_path_factory.mktemp("results"), repeats=2)


def test_the_page_is_named_by_model_hardware_and_date_and_has_all_of_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["--run", run.name, "--results", str(run.parent), "--out", str(tmp_path / "pages")]) == 0
    (path,) = (tmp_path / "pages").iterdir()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["page"] == str(path)
    assert path.name == "cnn_synthetic-0.00ghz-2-cores_2026-11-23.md"
    text = path.read_text(encoding="utf-8")
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    wanted = ["The verdict", "The winners' settings", "What was compared", "Throughput and latency", "Every visit"]
    assert [heading for heading in headings if heading in wanted] == wanted
    for words in (
        "torch 2.13.0",
        "Synthetic CPU @ 0.00GHz",
        "make compare MODEL=cnn",
        "workers 2",
        '{"workers": 2}',
        "Was it fair?",
    ):
        assert words in text, words
    assert "Plot in report.html" not in text and str(run.parent) not in text
    summary = json.loads((run / "summary.json").read_text())
    assert all(c["sentence"] in text for c in summary["comparisons"] if (c["kind"], c["metric"]) == ("ab", "p99"))
    rows = [line for line in text.splitlines() if "(visit " in line]
    assert len(rows) == len(summary["measurements"])


def test_an_invalid_comparison_says_so_first(tmp_path: Path) -> None:
    run = comparison.write_run(tmp_path, repeats=2)
    records.edit(run / "compare.json", lambda r: r.update(valid=False, invalid_reasons=["cores differ"]))
    first = benchmark.page(report_records.load(run.name, run)).lead[0]
    assert getattr(first, "title", "").startswith("This comparison is INVALID")


def test_a_load_test_makes_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = records.write_run(tmp_path / "results")
    arguments = ["--run", run.name, "--results", str(run.parent), "--out", str(tmp_path / "pages")]
    records.edit(run / "summary.json", lambda s: s.update(created=records.CREATED))
    assert benchmark.main(arguments) == 2
    assert "is no comparison" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert not (tmp_path / "pages").exists()
