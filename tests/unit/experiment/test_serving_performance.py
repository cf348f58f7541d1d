import json

import pytest

from experiment.serving_performance import Subject, load_profile, main, subjects_of
from faceoff import presets
from faceoff.errors import UsageError
from faceoff.store import Store


def limits(rows, handler, onnx):
    return {
        "handler": {"rows_per_s": {f"raw 1x{rows}": handler, "raw 16x1": 1.0}},
        "onnx": {"rows_per_s": {f"onnxruntime 1x{rows}": onnx}},
    }


@pytest.mark.parametrize(
    ("rows", "handler", "onnx", "expected"),
    [
        (1, 9000.0, 50000.0, "serving"),
        (32, 40000.0, 90000.0, "serving-rows"),
        (1, 12.0, 500.0, "serving-heavy"),  # the slowest servable decides
        (32, 300.0, 20.0, None),  # 1.6 s
        (32, 300.0, 320.0, "serving-heavy"),
    ],
)
def test_the_load_profile_follows_what_a_request_takes_in_process(rows, handler, onnx, expected):
    assert load_profile(limits(rows, handler, onnx), rows) == expected
    if expected is not None:
        assert presets.load_profile(expected).warmup_requests > 0


def test_a_subject_is_a_server_its_preset_and_settings_over_that():
    found = subjects_of("torchserve,torchserve:tuned+presets/settings/batch16.yaml,tfserving-embedded:tuned")
    assert found[0] == Subject(server="torchserve", tuning="default")
    assert found[0].arguments == ("--servers", "torchserve", "--tuning", "default")
    assert found[1].label == "tuned+batch16"
    assert found[1].arguments[-2:] == ("--settings", "presets/settings/batch16.yaml")
    assert found[2].label == "tuned"
    runs = [subject.run("sp-cnn", "rest", "json", 1) for subject in found]
    assert runs[1:] == ["sp-cnn-torchserve-tuned-batch16-rest-json-1", "sp-cnn-tfserving-embedded-tuned-rest-json-1"]
    assert [Store().run_dir(run).name for run in runs] == runs  # names that a run may have


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("apache:tuned", "apache"),
        ("torchserve:fast", "fast"),
        ("torchserve:tuned+nothing.yaml", "nothing.yaml"),
        ("tfserving-embedded:tuned+presets/settings/batch16.yaml", "settings of torchserve, not of tfserving-embedded"),
    ],
)
def test_a_subject_that_cannot_be_is_refused_before_anything_runs(text, says):
    with pytest.raises(UsageError, match=says):
        subjects_of(text)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "cnn,cnn"], "--model=cnn,cnn: expected one or more different models"),
        (["--rows", "1,x"], "--rows: found 'x', expected integers of at least 1"),
        (["--rows", "1,1"], "--rows=1,1: expected one or more different numbers"),
    ],
)
def test_a_mistake_is_said_before_anything_runs(capsys, tmp_path, options, says):
    code = main([*options, "--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r")])
    assert code == 2
    assert says in json.loads(capsys.readouterr().out)["error"]
    assert list(tmp_path.iterdir()) == []
