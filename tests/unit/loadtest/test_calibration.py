"""loadtest.calibration."""

import json
from pathlib import Path
from typing import Any

import pytest

from faceoff import cores, environment
from faceoff.errors import CorruptError
from faceoff.store import Store
from loadtest import calibrate, calibration
from loadtest.calibration import Calibration, Capacity


def made(**changes: Any) -> Calibration:
    points = [("rest", 1000, 10_000.0), ("rest", 3000, 5000.0), ("grpc", 1000, 8000.0)]
    fields: dict[str, Any] = {
        "created": "now",
        "capacities": tuple(
            Capacity(protocol=protocol, body_bytes=size, connections=8, rps=rps, cpu_us=30.0) for protocol, size, rps in points
        ),
        "environment": environment.record(),
        "cores": cores.split().to_dict(),
    }
    return Calibration(**{**fields, **changes})


def test_the_time_of_a_request_is_linear_between_the_sizes() -> None:
    found = made()
    assert found.capacity_rps("rest", 1000) == pytest.approx(10_000)
    assert found.capacity_rps("rest", 1) == pytest.approx(10_000)
    assert found.capacity_rps("rest", 2000) == pytest.approx(1 / 150e-6)
    assert found.capacity_rps("rest", 6000) == pytest.approx(2500)
    assert found.capacity_rps("carrier pigeon", 10) is None


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    store = Store(artifacts=tmp_path, results=tmp_path)
    assert calibration.read(store) is None
    calibration.write(store, made())
    found = calibration.read(store)
    assert found is not None
    assert (found.elsewhere, found.capacities) == (None, made().capacities)


def test_one_of_another_machine_is_not_used(tmp_path: Path) -> None:
    store = Store(artifacts=tmp_path, results=tmp_path)
    record = json.loads(json.dumps(environment.record()))
    record["machine"]["cpu"] = "abacus"
    calibration.write(store, made(environment=record))
    found = calibration.read(store)
    assert found is not None and found.elsewhere is not None
    assert "abacus" in found.elsewhere
    assert found.capacity_rps("rest", 1000) is None


def test_what_is_there_of_this_machine_is_kept_when_only_a_missing_one_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration.write(Store(artifacts=tmp_path, results=tmp_path), made())
    before = (tmp_path / calibration.NAME).read_bytes()
    assert calibrate.main(["--missing", "--artifacts", str(tmp_path), "--results", str(tmp_path)]) == 0
    assert (tmp_path / calibration.NAME).read_bytes() == before
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["capacity_rps"]["grpc-1000"] == 8000.0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"capacities": [{"x": 1}]}'])
def test_a_broken_file(tmp_path: Path, text: str) -> None:
    (tmp_path / calibration.NAME).write_text(text)
    with pytest.raises(CorruptError, match="make loadtest-calibrate"):
        calibration.read(Store(artifacts=tmp_path, results=tmp_path))
