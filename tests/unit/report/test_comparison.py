"""The page of a comparison: its verdict, its figures over visits, its fairness; and what a damaged record does."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceoff.store import Store
from report import build, compose, index
from report import records as report_records
from report.figures import comparison as figures
from report.page import Block, Heading, Notice, Page, Plot, Section, Table, plots
from tests.fakes import comparison, records

PLOTS = {
    "plot-verdict-0-1",
    "plot-curves",
    "plot-sweep",
    "plot-visits-server",
    "plot-breakdown",
    "plot-ways-throughput",
    "plot-ways-cpu",
    "plot-trials",
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return comparison.write_run(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def page(kept: Path) -> Page:
    return compose.page(report_records.load(kept.name, kept))


@pytest.fixture
def changed(kept: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the run with compare.json or summary.json altered; the raw rows are linked, not copied."""

    def change(alter: Callable[[Any], Any], file: str = "compare.json") -> Path:
        run = tmp_path / kept.name
        linked = {"copy_function": lambda a, b: Path(b).hardlink_to(a), "ignore": shutil.ignore_patterns("report.*")}
        shutil.copytree(kept, run, **linked)
        text = (kept / file).read_text(encoding="utf-8")
        (run / file).unlink()
        (run / file).write_text(text, encoding="utf-8")
        records.edit(run / file, alter)
        return run

    return change


def section(page: Page, name: str) -> Section:
    return next(section for section in page.sections if section.id == name)


def of(blocks: Any, kind: type) -> list[Any]:
    return [block for block in blocks if isinstance(block, kind)]


def titles(blocks: Any) -> str:
    return " | ".join(block.title for block in of(blocks, Notice))


def rebuilt(run: Path) -> Page:
    return compose.page(report_records.load(run.name, run))


def test_the_verdict_stands_first_with_its_interval(kept, page):
    comparisons = json.loads((kept / "summary.json").read_text())["comparisons"]
    first = page.lead[0]
    assert isinstance(first, Notice)
    best = next(c for c in comparisons if (c["kind"], c["metric"], c["tuning"]) == ("ab", "p99", "best"))
    assert first.title == best["sentence"] and re.search(r"\(\d\.\d+ to \d\.\d+\)", first.title)
    counts = [int(n) for n in re.findall(r"\d+", first.text)]
    assert counts[0] == 20 == sum(counts[1:])  # every comparison is in exactly one of the counts
    assert "TorchServe is better in none" in first.text


def test_only_a_run_that_left_something_open_asks_for_more_repeats(page, changed):
    def decide(summary):
        for c in summary["comparisons"]:
            if c["kind"] == "ab":
                c["verdict"] = "b_faster"

    decided = rebuilt(changed(decide, "summary.json"))
    assert decided.lead[0].text.endswith("no difference in none, and none cannot be told.")
    assert "`PROFILE=quick`: 4 repeats" in titles(section(page, "verdict").blocks)
    assert "PROFILE" not in titles(section(decided, "verdict").blocks)


def test_the_sections_stand_in_the_order_of_the_questions(page):
    wanted = ["verdict", "compared", "equality", "throughput", "latency", "breakdown", "ways", "training", "tuning"]
    assert [s.id for s in page.sections] == [*wanted, "validity", "terms", "environment"]
    assert {plot.id for plot in plots(page)} >= PLOTS


def test_the_table_says_what_summary_json_says(kept, page):
    comparisons = json.loads((kept / "summary.json").read_text())["comparisons"]
    installed = next(t for t in of(section(page, "verdict").blocks, Table) if t.caption.startswith("As installed"))
    assert len(installed.rows) == 10
    row = next(r for r in installed.rows if r[0].text == "p50 latency" and r[0].note.startswith("REST"))
    told = next(
        c for c in comparisons if (c["kind"], c["metric"], c["tuning"], c["protocol"]) == ("ab", "p50", "default", "rest")
    )
    assert row[3].text == f"{told['ratio']:.2f}" and row[3].note == f"{told['ci_low']:.2f}–{told['ci_high']:.2f}"
    assert row[5].text == "tfserving-embedded is faster" and told["verdict"] == "b_faster"
    best = next(t for t in of(section(page, "verdict").blocks, Table) if t.caption.startswith("Each with"))
    outcomes = {r[5].text for r in best.rows}
    assert outcomes == {"cannot tell", "no difference"}
    assert all(
        re.match("needs (about \\d+|more than 100) more repeat", r[5].note) for r in best.rows if r[5].text == "cannot tell"
    )


def test_every_figure_points_the_same_way_in_the_forest(page):
    figure = next(plot for plot in plots(page) if plot.id == "plot-verdict-0-1").figure
    points = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    assert len(points) == 20
    won = [trace for trace in points if trace["marker"]["symbol"] == "diamond"]
    # tfserving-embedded is faster as installed: left of 1 for latencies, throughputs and CPU alike
    assert len(won) == 10 and all(trace["x"][0] < 1 for trace in won)


def test_an_interval_over_many_powers_of_ten_leaves_the_others_their_room(changed):
    def widen(summary):
        one = next(c for c in summary["comparisons"] if c["kind"] == "ab" and c["metric"] == "max_qps")
        one.update(ci_low=1e-12, ci_high=1e12, verdict="cannot_tell", noise_floor=1e9)

    found = plots(rebuilt(changed(widen, "summary.json")))
    figure = next(plot for plot in found if plot.id == "plot-verdict-0-1").figure
    assert all(axis["range"][1] < 2 for name, axis in figure["layout"].items() if name.startswith("xaxis"))
    arrows = [trace for trace in figure["data"] if trace["mode"] == "markers" and isinstance(trace["marker"]["symbol"], list)]
    assert [trace["marker"]["symbol"] for trace in arrows] == [["triangle-left", "triangle-right"]]


def test_the_curves_whiskers_do_not_push_their_points_into_a_corner():
    points = [
        figures.Point(throughput=(at, at / 90, at * 90), latency=(ms, ms / 900, ms * 900), load="")
        for at, ms in ((500.0, 1.0), (4000.0, 5.0))
    ]
    layout = figures.latency_throughput({"REST": {figures.OPEN: points}})["layout"]
    assert 4000 < layout["xaxis"]["range"][1] < 6000
    lowest, highest = (10**end for end in layout["yaxis"]["range"])
    assert 0.2 < lowest < 1 and 5 < highest < 20


def test_a_server_against_itself_is_the_noise_floor(page):
    blocks = section(page, "verdict").blocks
    table = next(t for t in of(blocks, Table) if t.caption.startswith("A/A"))
    assert len(table.rows) == 10 and {row[4].text for row in table.rows} == {"as it should be"}
    assert "`PROFILE=full` does it with each" in table.note
    assert "None" not in json.dumps([[cell.text for cell in row] for row in table.rows])


def test_means_over_visits_leave_the_aa_visits_out(page):
    table = next(t for t in of(section(page, "throughput").blocks, Table) if t.caption.startswith("Closed loop"))
    assert {row[2].text for row in table.rows} == {"4 of 4"}


def test_quick_says_what_it_leaves_short_and_names_full(page):
    for name in ("verdict", "throughput", "tuning"):
        notices = [n for n in of(section(page, name).blocks, Notice) if "PROFILE=full" in n.text]
        assert notices, name


def test_time_without_a_name_is_flagged(page):
    notice = next(n for n in of(section(page, "breakdown").blocks, Notice) if n.title.startswith("More than 10%"))
    assert len(notice.items) == 4 and all(item.startswith("TorchServe") for item in notice.items)


def test_floors_efficiency_and_cost(page):
    found = {t.caption.split(":")[0]: t for t in of(section(page, "breakdown").blocks, Table)}
    efficiency = found["Efficiency"].rows
    assert len(efficiency) == 8 and efficiency[0][4].text == "23.1\u202f%"  # 420 of 1,818 requests/s
    assert found["Cost of a million inferences, from the price list given"].rows[0][4].text == "0.0265 EUR"
    stacks = next(plot for plot in plots(page) if plot.id == "plot-breakdown").figure["data"]
    assert [trace["name"] for trace in stacks if trace["type"] == "bar"][-1] == "unattributed"
    assert len(next(trace for trace in stacks if trace["name"] == "in-process limit")["x"]) == 8


def test_the_curve_of_every_server_and_tuning_goes_beyond_its_knee(page):
    blocks = section(page, "throughput").blocks
    table = next(t for t in of(blocks, Table) if t.caption == "Every point of the sweep")
    assert len(table.rows) == 4 * 2 * 7
    assert sum(row[1].note == "beyond the knee" for row in table.rows) == 4 * 2
    figure = next(plot for plot in plots(page) if plot.id == "plot-sweep").figure
    lines = [trace for trace in figure["data"] if trace["mode"] == "lines+markers"]
    assert len(lines) == 4 * 2 * 2 and all(len(line["customdata"]) == 7 for line in lines)
    assert all(line["error_y"]["array"] is not None for line in lines)


def test_the_heat_map_has_every_encoding_and_what_a_server_does_not_take_is_empty(page):
    for name in ("plot-ways-throughput", "plot-ways-cpu"):
        (heat,) = next(plot for plot in plots(page) if plot.id == name).figure["data"]
        assert len(heat["x"]) == 6 and len(heat["y"]) == 4
        assert [sum(text != "–" for text in row) for row in heat["text"]] == [5, 5, 3, 3]
    assert "One encoding" not in titles(section(page, "ways").blocks)


def test_wide_visits_have_no_part_in_means_and_verdicts(kept, page):
    table = next(t for t in of(section(page, "throughput").blocks, Table) if t.caption.startswith("Closed loop"))
    assert len(table.rows) == 4 * 2
    assert {c["encoding"] for c in json.loads((kept / "summary.json").read_text())["comparisons"]} == {"json", "tensor"}


def test_without_wide_visits_the_page_says_what_measures_them(changed):
    def narrow(record):
        record["visits"] = [visit for visit in record["visits"] if visit["role"] != "wide"]

    page = rebuilt(changed(narrow))
    assert "plot-sweep" not in {plot.id for plot in plots(page)}
    assert "No sweep was measured" in titles(section(page, "throughput").blocks)
    assert "One encoding a protocol" in titles(section(page, "ways").blocks)


def test_a_failed_visit_is_shown_with_its_reason(changed):
    def fail(record):
        taken = record["visits"].pop(0)
        visit = {key: taken[key] for key in ("id", "server", "tuning", "repeat", "role", "order")}
        record["failed"] = [{**visit, "reason": "ended with exit code 1 while starting"}]

    notice = next(n for n in of(section(rebuilt(changed(fail)), "validity").blocks, Notice) if n.title == "Visits that failed")
    assert len(notice.items) == 1 and notice.items[0].endswith("ended with exit code 1 while starting")
    assert "visit 1" in notice.items[0]


def test_what_was_not_fair_is_said_before_the_table(page):
    blocks = section(page, "validity").blocks
    assert "Not shown to be fair" in titles(blocks)
    table = next(t for t in of(blocks, Table) if t.columns[0].title == "What")
    assert [row[3].text for row in table.rows] == ["equal", "unknown", "declared"]


def test_reproduction_is_one_command_with_the_seed(page):
    code = next(b.text for b in section(page, "environment").blocks if b.kind == "code")
    assert "make compare MODEL=cnn SERVERS=torchserve,tfserving-embedded PROTOCOLS=rest,grpc PROFILE=quick SEED=7" in code


def test_both_files_are_built_and_units_are_everywhere(kept, page, capsys):
    assert build.main(["--run", kept.name, "--results", str(kept.parent)]) == 0
    capsys.readouterr()
    markdown = (kept / "report.md").read_text(encoding="utf-8")
    assert "## The verdict" in markdown and "tfserving-embedded is faster" in markdown
    assert len((kept / "report.html").read_text(encoding="utf-8")) < 8_000_000
    for plot in plots(page):
        assert isinstance(plot, Plot) and plot.label and plot.caption
        axes = " ".join(
            axis["title"]["text"] for key, axis in plot.figure["layout"].items() if key[1:5] == "axis" and axis.get("title")
        )
        assert any(unit in axes for unit in ("ms", "per second", "step", "difference", "%", "times", "µs")), plot.id
        assert "TensorFlow Serving" not in json.dumps(plot.figure)


def test_an_invalid_visit_has_no_value_and_is_listed(changed):
    def spoil(summary):
        bad = next(m for m in summary["measurements"] if m["tuning"] == "best" and m["scenario"] == "server")
        bad.update(valid=False, invalid_reasons=["late by 3 ms"])

    page = rebuilt(changed(spoil, "summary.json"))
    assert "3 of 4" in [row[2].text for t in of(section(page, "throughput").blocks, Table) for row in t.rows]
    invalid = next(n for n in of(section(page, "validity").blocks, Notice) if n.title.startswith("INVALID: "))
    assert "visit " in invalid.title and list(invalid.items) == ["late by 3 ms"]


def test_what_is_left_of_a_comparison_without_its_optional_parts(changed):
    def strip(record):
        record.update(breakdown=[], floors=[], tuning={}, fairness=[], invalid_reasons=["nobody looked"])

    page = rebuilt(changed(strip))
    assert "Where the time goes: not measured" in titles(section(page, "breakdown").blocks)
    assert "No tuner ran" in titles(section(page, "tuning").blocks)
    assert "No fairness check ran" in titles(section(page, "validity").blocks)
    assert "This comparison is INVALID" in titles(section(page, "validity").blocks)


def test_no_comparison_at_all_is_said(changed):
    page = rebuilt(changed(lambda summary: summary.update(comparisons=[]), "summary.json"))
    assert "No verdict" in titles(page.lead)
    assert "No A/A run" in titles(section(page, "verdict").blocks)
    headings = [b.text for b in of(section(page, "verdict").blocks, Heading)]
    assert headings == ["A server against itself", "Did anything move meanwhile?"]


def test_a_drift_is_said(changed):
    def drift(summary):
        for m in summary["measurements"]:
            if m["scenario"] == "closed":
                m["throughput_rps"] *= 1 + 0.03 * int(m["visit"][:2])

    blocks: list[Block] = list(section(rebuilt(changed(drift, "summary.json")), "verdict").blocks)
    notice = next(n for n in of(blocks, Notice) if n.title.startswith("Yes: figures drifted"))
    assert len(notice.items) == 2 and all(item.startswith("throughput") for item in notice.items)


@pytest.mark.parametrize(
    ("alter", "word"),
    [
        (lambda r: r.pop("seed"), "has no 'seed'"),
        (lambda r: r["visits"][0]["measurements"].append("nobody"), "has no 'nobody'"),
        (lambda r: r["breakdown"][0].pop("mean_ms"), "has no 'mean_ms'"),
        (lambda r: r["fairness"][0].pop("server_a"), "has no 'server_a'"),
    ],
)
def test_a_damaged_record_is_one_clear_line(changed, capsys, alter, word):
    run = changed(alter)
    assert build.main(["--run", run.name, "--results", str(run.parent)]) == 2
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert "compare.json" in error and word in error and "make compare" in error
    assert not (run / "report.html").exists()


def test_hostile_names_stay_text(changed, capsys):
    hostile = "<img src=x onerror=alert(1)>"

    def poison(record):
        record["tuning"]["torchserve"][1]["choices"]["workers"] = hostile
        record["fairness"][0].update(reason=hostile, a=hostile)

    run = changed(poison)
    assert build.main(["--run", run.name, "--results", str(run.parent)]) == 0
    capsys.readouterr()
    assert "<img src=x" not in (run / "report.html").read_text(encoding="utf-8")


def test_an_invalid_comparison_is_said_before_anything_of_it_is_quoted(changed):
    run = changed(lambda r: r.update(valid=False, invalid_reasons=["fairness (default): threads differs"]))
    page = rebuilt(run)
    first = page.lead[0]
    assert isinstance(first, Notice) and first.tone == "bad" and first.items == ["fairness (default): threads differs"]
    assert "INVALID" in first.title
    assert section(page, "verdict").blocks[0] == first
    store = Store(artifacts=run.parent, results=run.parent)
    (row,) = index.rows(store, [run.name])
    assert (row.tone, row.verdict) == ("bad", "INVALID: fairness (default): threads differs")
