"""The training page over several models, from synthetic records."""

import json

import pytest

from faceoff import stats
from report import build, compose, formats
from report import records as report_records
from report.page import Notice, Table, plots
from tests.fakes import records
from training import study
from training.equivalence import tost


def write_studies(run):
    """One record of every kind for `lstm`, and a second native study whose verdict is open."""
    import numpy as np

    recipe = {"name": "adam", "learning_rate": 0.002, "momentum": 0.9, "equal": True}
    job = {
        "model": "lstm",
        "dataset": {"name": "mnist1d"},
        "optimizer": recipe,
        "profile": "quick",
        "precision": "float32",
        "batch_size": 64,
        "num_steps": 200,
        "threads": 2,
        "device": "cpu",
    }
    losses = np.linspace(2.3, 0.4, 200).tolist()
    lockstep = {
        "bound": 1e-4,
        "early_bound": 1e-4,
        "bound_steps": 200,
        "max_abs_loss_difference": 3.2e-5,
        "max_abs_loss_difference_in_bound_steps": 3.2e-5,
        "first_step_apart": None,
        "first_step_beyond_bound": None,
    }
    rng = np.random.default_rng(0)
    files = {
        "lstm/lockstep": {
            "model": "lstm",
            "config": job,
            "metrics": {"lockstep": lockstep, "num_steps": 200, "test_accuracy": {"torch": 0.61, "tf": 0.61}},
            "losses": {"torch": losses, "tf": [value + 1e-6 for value in losses]},
            "native_not_compared_because": "",
            "sides": {key: fake_side(rng) for key in ("torch", "tf")},
            "environment": records.ENVIRONMENT,
        },
        "lstm/modes": {
            **job,
            "repeats": 2,
            "order": ["torch-eager-0", "tf-xla-0", "tf-xla-1", "torch-eager-1"],
            "target_accuracy": 0.5,
            "invalid_reasons": ["tf-xla-1: others used 31% of the cores' time, limit 5%"],
            "modes": [fake_mode(mode, rng) for mode in ("torch-eager", "tf-xla")],
            "logging": [{"mode": "torch-eager", "median_step_ms_without": 4.0, "median_step_ms_with": 4.1, "write_ms": 0.2}],
        },
        "lstm/distributed": {
            **job,
            "num_workers": 2,
            "judged": True,
            "invalid_reasons": ["tf-2-workers: others used 12% of the cores' time, limit 5%"],
            "frameworks": {
                key: {
                    "backend": "gloo",
                    "median_step_ms": {"1": 8.0, "2": 5.0},
                    "efficiency": 0.8,
                    "lockstep": lockstep,
                }
                for key in ("torch", "tf")
            },
        },
    }
    accuracies = {"lstm": ([0.98, 0.981, 0.979], [0.981, 0.98, 0.979]), "cnn": ([0.95, 0.99, 0.97], [0.96, 0.98, 0.97])}
    for model, (torch, tf) in accuracies.items():
        result = tost(torch, tf, margin=0.01)
        files[f"{model}/study"] = {
            **job,
            "seeds": [1, 2, 3],
            "accuracy": {"torch": torch, "tf": tf},
            "losses": {"torch": [losses] * 3, "tf": [losses] * 3},
            "equivalence": result.to_dict(),
            "verdict": result.verdict,
        }
    others = {"dcgan": "has no right answers, so no accuracy", "gru": ""}  # models without a native study
    for model, why in others.items():
        files[f"{model}/lockstep"] = {**files["lstm/lockstep"], "model": model, "native_not_compared_because": why}
    for name, data in files.items():
        path = run / "training" / name / f"{name.split('/')[1]}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data), encoding="utf-8")


def fake_side(rng):
    return {"step_ms": rng.lognormal(1.4, 0.1, 200).tolist(), "peak_rss_bytes": 600 << 20, "others_percent": 12.0}


def fake_mode(mode, rng):
    times = rng.lognormal(1.4, 0.1, 200)
    return {
        "mode": mode,
        "framework": mode.split("-", maxsplit=1)[0],
        "version": "1",
        "threads": [2, 2],
        "first_step_ms": [900.0, 910.0],
        "compile_ms": [890.0, 900.0],
        "step_ms": stats.summary(times),
        "ci95_ms": stats.intervals(times),
        "median_step_ms": [4.0, 4.1],
        "examples_per_s": [15000.0, 15100.0],
        "time_to_target_s": [1.1, None] if mode == "tf-xla" else [None, None],
        "peak_rss_bytes": [600 << 20, 610 << 20],
        "peak_gpu_bytes": [None, None],
        "energy_j": [None, None],
        "test_accuracy": [0.6, 0.6],
        "max_abs_loss_difference": 3e-5,
        "runs": [{"losses": [1.0], "step_ms": times.tolist(), "evaluations": [[100, 0.4], [200, 0.6]]}] * 2,
    }


@pytest.fixture
def run(tmp_path):
    found = records.write_run(tmp_path)
    write_studies(found)
    return found


def section(run):
    page = compose.page(report_records.load(run.name, run))
    return next(section for section in page.sections if section.id == "training"), page


def tables(found):
    return {block.caption.split(":")[0].split("?")[0]: block for block in found.blocks if isinstance(block, Table)}


def test_every_kind_of_record_is_shown(run):
    found, page = section(run)
    shown = tables(found)
    assert {"Lock-step", "Equally accurate", "lstm on mnist1d", "Data parallel on one machine, the same global batch"} <= set(
        shown
    )
    assert {"plot-lockstep-lstm", "plot-equivalence", "plot-modes-lstm"} <= {plot.id for plot in plots(page)}


def test_the_verdict_of_each_model_stands_in_the_table(run):
    rows = {row[0].text: row for row in tables(section(run)[0])["Equally accurate"].rows}
    assert (rows["lstm"][-1].text, rows["lstm"][-1].tone) == ("equivalent within 0.01", "good")
    assert (rows["cnn"][-1].text, rows["cnn"][-1].tone) == ("cannot tell: needs more seeds", "warn")
    assert rows["cnn"][-1].note.startswith("about ")  # says how many


def test_a_model_without_a_verdict_says_why(run):
    rows = {row[0].text: row[-1] for row in tables(section(run)[0])["Equally accurate"].rows}
    assert set(rows) == {"lstm", "cnn", "dcgan", "gru"}
    assert (rows["dcgan"].text, rows["dcgan"].note) == ("none", "it has no right answers, so no accuracy")
    assert (rows["gru"].text, rows["gru"].note) == ("not tried", "make train MODEL=gru RUN=demo TRAIN=native")


def test_a_run_in_lock_step_only_says_that_no_accuracy_was_compared(run):
    for path in run.glob("training/*/study/study.json"):
        path.unlink()
    found, page = section(run)
    assert [row[-1].text for row in tables(found)["Equally accurate"].rows] == ["none", "not tried", "not tried"]
    assert "plot-equivalence" not in {plot.id for plot in plots(page)}


def test_times_of_workers_on_a_busy_machine_are_invalid(run):
    notices = [block for block in section(run)[0].blocks if isinstance(block, Notice)]
    assert ["tf-2-workers: others used 12% of the cores' time, limit 5%"] in [notice.items for notice in notices]


def test_energy_that_nobody_counted_and_targets_that_nobody_reached_are_said(run):
    rows = {row[0].text: [cell.text for cell in row] for row in tables(section(run)[0])["lstm on mnist1d"].rows}
    assert "not reached" in rows["torch-eager"]
    assert "–" in rows["torch-eager"]
    assert "1.10\u202fs" in rows["tf-xla"] or any("1.1" in cell for cell in rows["tf-xla"])


def test_without_a_target_none_is_called_missed(run):
    records.edit(run / "training" / "lstm" / "modes" / "modes.json", lambda modes: modes.update(target_accuracy=None))
    rows = {row[0].text: [cell.text for cell in row] for row in tables(section(run)[0])["lstm on mnist1d"].rows}
    assert "not reached" not in rows["torch-eager"]


def test_a_broken_record_is_named(run, capsys):
    path = run / "training" / "lstm" / "modes" / "modes.json"
    data = json.loads(path.read_text())
    del data["modes"][0]["peak_rss_bytes"]
    path.write_text(json.dumps(data))
    assert build.main(["--run", run.name, "--results", str(run.parent)]) == 2
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert "modes.json has no 'peak_rss_bytes'" in error
    assert "make train MODEL=lstm MODES=default RUN=demo" in error


def test_the_whole_report_is_built_with_them(run, capsys):
    assert build.main(["--run", run.name, "--results", str(run.parent)]) == 0
    capsys.readouterr()
    for name in ("report.html", "report.md"):
        text = (run / name).read_text(encoding="utf-8")
        assert "equivalent within 0.01" in text
        assert "Each its own way: equally accurate?" in text
        assert "tf-xla-1: others used 31% of the cores" in text


def test_the_studys_own_words_are_the_reports(run):
    side = [{"test_accuracy": value, "losses": [1.0], "version": "1", "mode": "eager"} for value in (0.98, 0.981)]
    assert set(study.judge({"torch": side, "tf": side}, [1, 2], margin=0.01)) >= {"seeds", "accuracy", "equivalence", "verdict"}


@pytest.fixture
def trained_only(tmp_path):
    found = tmp_path / "results" / "zoo"
    found.mkdir(parents=True)
    write_studies(found)
    return found


def test_a_run_without_a_load_test_has_a_page_too(trained_only, capsys):
    assert build.main(["--results", str(trained_only.parent)]) == 0  # found as the newest run
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["report"] == str(trained_only / "report.html")
    page = compose.page(report_records.load("zoo", trained_only))
    cards = {card.label: card.value for block in page.lead for card in getattr(block, "cards", ())}
    assert cards["Trained equally"] == "3 of 3"
    assert cards["Equally accurate"] == "1 of 2"
    assert cards["Modes compared, VALID"] == "0 of 1"
    assert cards["Data parallel, VALID"] == "0 of 1"
    assert {p.id for p in plots(page)} == {
        *(f"plot-lockstep-{name}" for name in ("lstm", "dcgan", "gru", "cost")),
        *("plot-equivalence", "plot-seeds-lstm", "plot-seeds-cnn", "plot-modes-lstm", "plot-accuracy-lstm"),
    }
    text = (trained_only / "report.md").read_text(encoding="utf-8")
    assert "make train MODEL=lstm TRAIN=native SEEDS=3 DATASET=mnist1d OPTIMIZER=adam PRECISION=float32 PROFILE=quick" in text
    assert "MODES=torch-eager,tf-xla" in text
    assert records.ENVIRONMENT["machine"]["cpu"] in text


def test_a_run_of_nothing_is_refused(tmp_path, capsys):
    (tmp_path / "zoo").mkdir()
    assert build.main(["--run", "zoo", "--results", str(tmp_path)]) == 2
    assert "found no" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_what_only_float64_proves_equal_says_so(run):
    path = run / "training" / "lstm" / "lockstep" / "lockstep.json"
    data = json.loads(path.read_text())
    lockstep = data["metrics"]["lockstep"]
    lockstep |= {"first_step_apart": 86, "float64": {"max_abs_loss_difference": 3e-15, "bound": 1e-8}}
    path.write_text(json.dumps(data))
    row = next(row for row in tables(section(run)[0])["Lock-step"].rows if row[0].text == "lstm")
    assert [cell.text for cell in row[4:6]] == ["step 87", formats.small(3e-15)]
    assert (row[-1].text, row[-1].tone) == ("equal", "good")
    lockstep["first_step_beyond_bound"] = 99
    path.write_text(json.dumps(data))
    rows = {row[0].text: row[-1].tone for row in tables(section(run)[0])["Lock-step"].rows}
    assert rows == {"dcgan": "good", "gru": "good", "lstm": "bad"}
