"""loadtest.outcome."""

import json
from pathlib import Path
from typing import Any

import pytest

from faceoff.errors import StageError
from loadtest import outcome
from loadtest.options import Options


def listen(*_: Any) -> None:
    """Hear nothing."""


def test_an_error_inside_reaches_the_stage_outside_with_its_exit_code(tmp_path: Path) -> None:
    found = outcome.produce(Options(artifacts=tmp_path, run="x"), folder=str(tmp_path), on_window=listen)
    assert found.exit_code == 2
    with pytest.raises(StageError, match="make deploy") as error:
        outcome.take(tmp_path, 2)
    assert error.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_an_unexpected_exception_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.plan.make", lambda options, share: 1 // 0)
    assert outcome.produce(Options(run="x"), folder=str(tmp_path), on_window=listen).exit_code == 1
    with pytest.raises(StageError, match="ZeroDivisionError") as error:
        outcome.take(tmp_path, 1)
    assert error.value.exit_code == 1


def test_a_locust_that_died_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="Locust ended with exit code -9"):
        outcome.take(tmp_path, -9)


def test_invalid_is_not_an_error_of_locust(tmp_path: Path) -> None:
    (tmp_path / outcome.NAME).write_text(json.dumps({"exit_code": 3, "error": None}))
    outcome.take(tmp_path, 3)
    assert list(tmp_path.iterdir()) == []


def test_without_the_stage_a_failed_test_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(artifacts=tmp_path / "artifacts", results=tmp_path / "results", run="x")
    assert outcome.produce(options, folder=None, on_window=listen).exit_code == 2
    assert not (tmp_path / "results").exists()
    assert "make deploy" in capsys.readouterr().err


def test_statuses_in_words() -> None:
    assert outcome.describe_status("rest", 503) == "HTTP status 503"
    assert outcome.describe_status("grpc", 14) == "gRPC code 14"
    assert outcome.describe_status("grpc", -1) == "connection failed"
    assert outcome.describe_status("rest", -2) == "timed out"
