"""The page says what ran and what did not; without a GPU there is none."""

import argparse

import pytest

from experiment import gpu_check
from faceoff import devices, environment
from faceoff.errors import UsageError

REPORT = """<testsuites><testsuite name="pytest">
<testcase name="test_a" time="1.5"/>
<testcase name="test_b" time="0.1"><skipped message="Docker has no NVIDIA runtime" type="pytest.skip"/></testcase>
<testcase name="test_c" time="2"><failure message="assert 1 | 2&#10;second line">trace</failure></testcase>
<testcase name="test_d" time="2"><error message="fixture broke"/></testcase>
</testsuite></testsuites>"""


def test_every_test_is_on_the_page_with_its_outcome():
    found = gpu_check.outcomes(REPORT)
    assert [one.result for one in found] == ["ok", "not run", "FAILED", "FAILED"]
    gpus = [{"name": "GPU 0", "memory_bytes": 2**34, "driver": "580"}]
    record = {**environment.record(), "machine": {**environment.record()["machine"], "gpus": gpus}}
    text = gpu_check.page("GPU 0", "2026-01-01", found, record)
    assert "| test_a | ok | 2 |  |" in text
    assert "| test_b | not run | 0 | Docker has no NVIDIA runtime |" in text
    assert "| test_c | FAILED | 2 | assert 1 / 2 second line |" in text
    assert "GPU 0 (16 GiB, driver 580)" in text


def test_without_a_gpu_it_is_the_users_mistake_and_no_page_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "gpus", list)
    with pytest.raises(UsageError, match="found no NVIDIA GPU"):
        gpu_check.gpu_check(argparse.Namespace(out=tmp_path))
    assert list(tmp_path.iterdir()) == []
