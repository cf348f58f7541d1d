"""loadtest.summary."""

from typing import Any

import pytest

from loadtest import summary


def test_settings_hash_does_not_depend_on_order() -> None:
    assert summary.settings_sha256({"a": 1, "b": [1]}) == summary.settings_sha256({"b": [1], "a": 1})
    assert summary.settings_sha256({"a": 1}) != summary.settings_sha256({"a": 2})
    # sha256 of {}, so that another tool can find the same
    assert summary.settings_sha256({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def measurement(**changes: Any) -> dict[str, Any]:
    return {
        "id": "torchserve-rest-json-closed-1",
        "load": {"kind": "connections", "value": 4},
        "latency_ms": {"p50": 1.5, "p99": 3.25},
        "throughput_rps": 700.0,
        "num_requests": 1500,
        "num_errors": 0,
        "num_wrong": 0,
        "valid": True,
        "invalid_reasons": [],
        **changes,
    }


def test_the_table_shows_what_could_not_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    none = measurement(
        id="b", latency_ms={"p50": None, "p99": None}, valid=False, invalid_reasons=["it ended", "it was wrong"], num_requests=0
    )
    summary.table([measurement(), none])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "torchserve-rest-json-closed-1" in captured.err and "3.25" in captured.err and "4 conn" in captured.err
    assert "INVALID b: it ended" in captured.err and "INVALID b: it was wrong" in captured.err
