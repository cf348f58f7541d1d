import argparse
import re
from pathlib import Path

import pytest

from faceoff import bootstrap
from faceoff.errors import FaceoffError, UsageError
from tests.conftest import ROOT


def options(tmp_path, **changes):
    values = {"device": "cpu", "torch_index": "", "venv": tmp_path / "venv", "stamp": tmp_path / "stamp"}
    return argparse.Namespace(**{**values, **changes})


def test_cuda_without_a_driver_is_the_users_mistake_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(bootstrap, "GPU_DRIVER", tmp_path / "none")
    with pytest.raises(UsageError, match="found no NVIDIA driver"):
        bootstrap.setup(options(tmp_path, device="cuda"))
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        bootstrap.setup(options(tmp_path, device="tpu"))
    assert list(tmp_path.iterdir()) == []


def test_another_folder_is_not_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="run make there"):
        bootstrap.setup(options(tmp_path))


def test_a_failing_step_leaves_no_stamp_and_names_itself(tmp_path, monkeypatch):
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho Looking in indexes: x\necho no such package\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.chdir(ROOT)
    with pytest.raises(FaceoffError, match=r"could not install torch: .* ended with exit code 3"):
        bootstrap.setup(options(tmp_path))
    assert not (tmp_path / "stamp").exists()


def names(path: Path) -> set[str]:
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    return {re.split(r"[=<>\[]", line)[0].strip().lower().replace("_", "-") for line in lines if line}


def test_every_requirement_is_pinned_without_local_version_or_hash():
    folder = ROOT / "requirements"
    pinned = folder / "constraints.txt"
    for name in ("base", "cpu", "gpu", "dev", "no-deps"):
        assert names(folder / f"{name}.txt") <= names(pinned), name
    for line in pinned.read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), line
