"""The command from records to files, on synthetic runs."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceoff import stats
from report import build, compose
from report import records as report_records
from report.page import Plot, Table, plots
from tests.fakes import records

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return records.write_run(tmp_path)


def make(run: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict]:
    code = build.main(["--run", run.name, "--results", str(run.parent)])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def texts(run: Path) -> tuple[str, str]:
    return (run / "report.html").read_text(encoding="utf-8"), (run / "report.md").read_text(encoding="utf-8")


def page_of(run: Path):
    return compose.page(report_records.load(run.name, run))


def visible(html: str) -> str:
    """What a reader sees, without scripts and styles."""

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.parts: list[str] = []
            self.skip = 0
            self.tags: list[tuple[str, dict]] = []

        def handle_starttag(self, tag, attrs):
            self.tags.append((tag, dict(attrs)))
            self.skip += tag in ("script", "style")

        def handle_endtag(self, tag):
            self.skip -= tag in ("script", "style")

        def handle_data(self, data):
            if not self.skip:
                self.parts.append(data)

    reader = Reader()
    reader.feed(html)
    return " ".join(" ".join(reader.parts).split())


def test_builds_both_files_and_says_where(run, capsys):
    code, line = make(run, capsys)
    assert code == 0
    assert line == {"status": "ok", "report": str(run / "report.html"), "markdown": str(run / "report.md")}
    html, markdown = texts(run)
    for text in (visible(html), markdown):
        assert "TorchServe against tfserving-embedded" in text
        assert "One run gives no verdict." in text
        assert "10 of 10" in text
        assert "Closed loop" in text and "Open loop" in text
        assert "no security patches" in text
        assert "make deploy MODEL=cnn SERVERS=torchserve,tfserving-embedded" in text


def test_the_html_is_one_offline_file(run, capsys):
    make(run, capsys)
    html, _ = texts(run)
    assert html.count("plotly.js v") == 1
    before_scripts = html[: html.index('<script type="application/json"')]
    assert "src=" not in before_scripts and "<link" not in before_scripts
    assert 'lang="en"' in html and "default-src 'none'" in html
    assert len(html) < 8_000_000


def test_headings_are_in_order(run, capsys):
    make(run, capsys)
    html, _ = texts(run)
    levels = [
        int(part[0]) for part in html[: html.index("application/json")].split("<h")[1:] if part[0] in "123456" and part[1] in " >"
    ]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_a_run_of_another_day_changes_nothing_else(run, capsys):
    make(run, capsys)
    first = texts(run)
    make(run, capsys)
    assert texts(run) == first  # thinning and order are deterministic


def test_the_embedded_server_is_never_called_tensorflow_serving(run, capsys):
    make(run, capsys)
    for plot in plots(page_of(run)):
        names = json.dumps(plot.figure) + plot.title + "".join(series.label for series in plot.legend)
        assert "TensorFlow Serving" not in names
    html, markdown = texts(run)
    for text in (visible(html), markdown):
        assert "It is not TensorFlow Serving" in text


def test_the_real_server_has_its_own_name(run, capsys):
    def rename(summary):
        for m in summary["measurements"]:
            m["server"] = m["server"].replace("tfserving-embedded", "tfserving")

    records.edit(run / "summary.json", rename)
    (run / "records" / "endpoints.json").unlink()
    make(run, capsys)
    assert "TorchServe against TensorFlow Serving" in visible(texts(run)[0])


def test_invalid_measurements_are_shown_with_every_reason(run, capsys):
    records.edit(
        run / "summary.json",
        lambda s: s["measurements"][2].update(valid=False, invalid_reasons=["late by 3 ms", "core 82% busy"]),
    )
    code, _ = make(run, capsys)
    assert code == 0
    for text in (visible(texts(run)[0]), texts(run)[1]):
        assert "9 of 10" in text
        assert "INVALID: TorchServe · REST · raw, scenario closed, 4 connections" in text
        assert "late by 3 ms" in text and "core 82% busy" in text
    glance = next(block for block in page_of(run).lead if isinstance(block, Table))
    raw = next(row for row in glance.rows if row[0].note == "REST · raw")
    assert raw[1].text == "INVALID"  # an INVALID throughput is not offered for comparison


def test_servers_in_different_precisions_are_named_so_and_not_to_be_compared(run, capsys):
    def lower(summary):
        for m in summary["measurements"]:
            m["precision"] = "bf16" if m["server"] == "torchserve" else "float32"

    records.edit(run / "summary.json", lower)
    make(run, capsys)
    for text in (visible(texts(run)[0]), texts(run)[1]):
        assert "TorchServe (bf16) against tfserving-embedded" in text
        assert "The servers computed in different precisions" in text
    records.edit(run / "summary.json", lambda s: [m.update(precision="bf16") for m in s["measurements"]])
    make(run, capsys)
    assert "The servers computed in different precisions" not in texts(run)[1]


def test_the_accuracy_on_the_wire_stands_beside_the_speed(run):
    parity = run / "records" / "parity.json"
    records.edit(parity, lambda p: p["test_sets"][0].update(accuracy=0.9111))
    glance = next(block for block in page_of(run).lead if isinstance(block, Table))
    found = {(row[0].text, row[0].note): row[-1].text for row in glance.rows}
    assert found["TorchServe", "REST · json"] == "91.11\u202f%"
    assert found["TorchServe", "gRPC · tensor"] == "97.50\u202f%"


def test_repeated_windows_are_listed(run, capsys):
    make(run, capsys)
    assert "the hypervisor took 4.1% of the cores' time, limit 2%" in visible(texts(run)[0])


def test_hostile_text_stays_text(run, capsys):
    def poison(summary):
        summary["measurements"][0].update(valid=False, invalid_reasons=[HOSTILE], encoding=HOSTILE)
        summary["measurements"][1]["server"] = HOSTILE
        summary["environment"]["machine"]["cpu"] = HOSTILE

    records.edit(run / "summary.json", poison)
    records.edit(run / "records" / "training.json", lambda t: t["config"]["dataset"].update(source=HOSTILE, name=HOSTILE))
    code, line = make(run, capsys)
    assert code == 0, line
    html, markdown = texts(run)
    assert "<script>alert" not in html and "<img src=x" not in html
    assert HOSTILE in visible(html)
    prose = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)  # nothing is HTML inside a fence
    assert "<script>alert" not in prose and "<img" not in prose
    assert "DATASET='<script>" in markdown  # a command to paste quotes it
    for plot in plots(page_of(run)):
        drawn = [{key: value for key, value in trace.items() if key != "legendgroup"} for trace in plot.figure["data"]]
        assert "<script" not in json.dumps([drawn, plot.figure["layout"]])  # Plotly reads HTML in names


@pytest.mark.parametrize("record", list(report_records.RECORDS))
def test_a_missing_record_is_said_with_its_command(run, capsys, record):
    file, command, _ = report_records.RECORDS[record]
    (run / "records" / file).unlink()
    code, _ = make(run, capsys)
    assert code == 0
    html, markdown = texts(run)
    assert f"records/{file} is not in this run. {command} makes it" in visible(html)
    assert f"`records/{file}` is not in this run. `{command}` makes it" in markdown


def test_the_accuracy_over_the_wire_stands_beside_trainings(run, capsys):
    path = run / "records" / "parity.json"
    parity = json.loads(path.read_text())
    parity["test_sets"][0]["accuracy"] = 0.9111
    path.write_text(json.dumps(parity))
    make(run, capsys)
    shown = visible(texts(run)[0])
    assert "The whole test set through every server" in shown
    assert "91.11" in shown and "97.50" in shown
    del parity["test_sets"]  # a run of an earlier version
    path.write_text(json.dumps(parity))
    code, _ = make(run, capsys)
    assert (code, "The whole test set" in visible(texts(run)[0])) == (0, False)


def test_no_records_at_all_is_still_a_report(run, capsys):
    for path in (run / "records").iterdir():
        path.unlink()
    code, _ = make(run, capsys)
    assert code == 0
    assert visible(texts(run)[0]).count("is not in this run") >= 6


def test_the_trained_weights_are_told_with_the_losses(run, capsys):
    assert make(run, capsys)[0] == 0
    text = visible(texts(run)[0])
    assert (
        "Weights in float64, over 300 steps, differ by at most" in text
        and "(norm/moving_mean), running statistics included" in text
    )


def test_a_model_that_takes_no_training_step_has_a_report(run, capsys):
    def untrained(record):
        record.update(losses=[], step_ms=[], first_step_ms=None, training_s=0, test_accuracy=None, num_parameters=0)

    for framework in ("torch", "tf"):
        records.edit(run / "records" / f"train_{framework}.json", untrained)
    metrics = {"num_steps": 0, "max_abs_loss_difference": 0.0, "first_step_apart": None}
    metrics |= {name: {"torch": None, "tf": None} for name in ("test_accuracy", "served_accuracy")}
    records.edit(run / "records" / "training.json", lambda training: training["metrics"].update(metrics))
    code, line = make(run, capsys)
    assert code == 0, line
    assert "Nothing is trained: the model has no weights." in visible(texts(run)[0])
    assert not {"plot-losses", "plot-steps"} & {plot.id for plot in plots(page_of(run))}


def test_no_summary_names_the_command(run, capsys):
    (run / "summary.json").unlink()
    code, line = make(run, capsys)
    assert code == 2 and line["status"] == "usage"
    assert "make loadtest RUN=demo" in line["error"]
    assert not (run / "report.html").exists()


def test_a_summary_that_contradicts_its_samples_is_a_fault(run, capsys):
    records.edit(run / "summary.json", lambda s: s["measurements"][0]["latency_ms"].update(p99=1.0))
    code, line = make(run, capsys)
    assert code == 1 and line["status"] == "fault"
    assert "p99 is 1 ms, its raw rows say" in line["error"]
    assert not (run / "report.html").exists()


def test_percentiles_are_the_raw_rows(run):
    table = pq.read_table(run / "samples" / "server-torchserve-rest-json.parquet")
    latency = (table["done_ns"].to_numpy() - table["scheduled_ns"].to_numpy()) / 1e6
    # a summary without percentiles: what is shown can only come from the rows
    records.edit(run / "summary.json", lambda s: [m.update(latency_ms={}, ci95_ms={}) for m in s["measurements"]])
    section = next(section for section in page_of(run).sections if section.id == "latency")
    shown = next(block for block in section.blocks if isinstance(block, Table)).rows[0]
    assert shown[0].text == "TorchServe" and shown[0].note == "REST · json"
    assert shown[2].text == f"{stats.percentile(latency, 0.5):.2f}"
    assert shown[6].text.endswith("?") and shown[6].note == "too few"  # p99.9 of 1,500 requests


def test_failed_requests_have_no_latency(run):
    path = run / "samples" / "server-torchserve-rest-json.parquet"
    table = pq.read_table(path)
    status = table["status"].to_numpy().copy()
    done = table["done_ns"].to_numpy().copy()
    status[:50], done[:50] = -2, done[:50] + 10**12
    table = table.set_column(table.column_names.index("status"), "status", pa.array(status, type=pa.int16()))
    pq.write_table(table.set_column(table.column_names.index("done_ns"), "done_ns", pa.array(done)), path)
    records.edit(run / "summary.json", lambda s: [m.update(latency_ms={}) for m in s["measurements"]])
    section = next(section for section in page_of(run).sections if section.id == "latency")
    shown = next(block for block in section.blocks if isinstance(block, Table)).rows[0]
    assert float(shown[8].text) < 1000  # the maximum


def test_nothing_succeeded(run, capsys):
    """Every request of every measurement failed: nulls in the summary, nothing to draw, still a page."""

    def fail(summary):
        for m in summary["measurements"]:
            path = run / m["samples"]
            table = pq.read_table(path)
            table = table.set_column(
                table.column_names.index("status"), "status", pa.array([-1] * table.num_rows, type=pa.int16())
            )
            pq.write_table(table.slice(0, 0) if m["protocol"] == "grpc" else table, path)
            m.update(
                valid=False,
                invalid_reasons=["no request succeeded"],
                num_errors=m["num_requests"],
                throughput_rps=0.0,
                latency_ms=dict.fromkeys(m["latency_ms"]),
                ci95_ms={},
                windows=[],
            )

    records.edit(run / "summary.json", fail)
    code, line = make(run, capsys)
    assert code == 0, line
    assert "No request of this scenario succeeded." in visible(texts(run)[0])


def test_no_measurements(run, capsys):
    records.edit(run / "summary.json", lambda s: s.update(measurements=[]))
    code, line = make(run, capsys)
    assert code == 0, line
    assert "This run holds no measurement" in visible(texts(run)[0])


@pytest.mark.parametrize(
    ("file", "text", "word"),
    [
        ("summary.json", "{", "cannot read"),
        ("summary.json", "[]", "expected a dict"),
        ("summary.json", '{"measurements": [{"id": "x"}]}', "has no"),
        ("records/verify.json", '{"metrics": {}}', "has no 'artifacts'"),
        ("records/train_tf.json", "{}", "run again: make train"),
        ("records/endpoints.json", "{}", "expected a list"),
        ("samples/closed-torchserve-rest-json.parquet", "no parquet", "run again: make loadtest"),
    ],
)
def test_a_corrupt_file_is_one_clear_line(run, capsys, file, text, word):
    (run / file).write_text(text, encoding="utf-8")
    code, line = make(run, capsys)
    assert code == 2 and word in line["error"] and "\n" not in line["error"]
    assert not (run / "report.html").exists()


def test_samples_outside_the_run_are_not_read(run, capsys):
    records.edit(run / "summary.json", lambda s: s["measurements"][0].update(samples="../../elsewhere.parquet"))
    code, line = make(run, capsys)
    assert code == 2 and "found no raw samples" in line["error"]


def test_refused_artifacts_come_with_reason_and_command(run, capsys):
    def refuse(verify):
        verify["metrics"]["artifacts"][2].update(
            status="refused", reason="largest difference 0.2 exceeds 1e-05", max_abs_difference=0.2
        )

    records.edit(run / "records" / "verify.json", refuse)
    make(run, capsys)
    text = visible(texts(run)[0])
    assert "3 of 4" in text and "exceeds 1e-05" in text and "python -m export.verify --model cnn" in text


def test_a_lower_precision_is_no_difference_of_the_exports(run, capsys):
    edit = {"status": "verified", "precision": "int8", "max_abs_difference": 0.25}
    records.edit(run / "records" / "verify.json", lambda verify: verify["metrics"]["artifacts"][3].update(edit))
    make(run, capsys)
    text = visible(texts(run)[0])
    assert "4 of 4 largest difference 2.4 × 10⁻⁶ in float32; 1 in less" in " ".join(text.split())


def test_verdicts_are_shown_once_there_are_some(run, capsys):
    records.edit(
        run / "summary.json", lambda s: s.update(comparisons=[{"sentence": "No difference larger than the noise floor."}])
    )
    make(run, capsys)
    text = visible(texts(run)[0])
    assert "No difference larger than the noise floor." in text and "One run gives no verdict." not in text


def test_every_plot_has_units_words_and_few_points(run):
    for plot in plots(page_of(run)):
        assert isinstance(plot, Plot) and plot.label and plot.caption and plot.title
        layout = plot.figure["layout"]
        titles = " ".join(axis["title"]["text"] for key, axis in layout.items() if key[1:5] == "axis" and axis.get("title"))
        assert any(unit in titles for unit in ("(ms)", "per second", "step", "difference", "ms", "%")), plot.id
        assert "template" not in layout
    assert len({plot.id for plot in plots(page_of(run))}) == len(plots(page_of(run))) == 12


def test_help_is_fast():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "report.build", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    elapsed = time.monotonic() - began
    for heavy in ("plotly", "pyarrow", "numpy", "jinja2", "scipy"):
        assert f" {heavy}\n" not in done.stderr
    assert elapsed < 5  # the imports above are what matters; a loaded machine is not this command's fault


def test_the_command_that_repeats_a_load_test_has_every_option_it_was_given(run):
    def code() -> str:
        section = next(section for section in page_of(run).sections if section.id == "environment")
        return next(block.text for block in section.blocks if block.kind == "code")

    assert ".venv/bin/python -m loadtest.run --model=cnn --protocols=rest,grpc --seed=1 --slo=100.0 --run=demo\n" in code()
    asked = {"url": "http://127.0.0.1:9/a b", "keep_alive": 0, "rate": 12.5}
    records.edit(run / "summary.json", lambda s: s["config"]["options"].update(asked))
    text = code()
    assert "--url='http://127.0.0.1:9/a b' --keep-alive=0" in text and "--rate=12.5" in text
    assert not re.search("make (train|export|verify|deploy|undeploy)", text)
