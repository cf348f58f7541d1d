import pytest

from experiment.serving_performance import load_profile
from faceoff import presets


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
