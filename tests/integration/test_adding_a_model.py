"""docs/adding-a-model.md, followed to the letter in a copy of the project."""

import json
import os
import re
import shutil
import subprocess

from tests.conftest import ROOT


def test_the_page_adds_a_model_that_trains(tmp_path):
    page = (ROOT / "docs" / "adding-a-model.md").read_text()
    copy = tmp_path / "faceoff"
    for name in ("faceoff", "training", "presets", "requirements"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "Makefile", copy)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    for path in (copy / "requirements").iterdir():
        os.utime(path, (0, 0))  # the environment is as it is: make must not set it up again

    files = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", page, re.S | re.M)
    assert [name for name, _ in files] == ["training/tiny_torch.py", "training/tiny_tf.py", "presets/models/tiny.yaml"]
    for name, content in files:
        assert not (copy / name).exists()
        (copy / name).write_text(content)
    (where, line) = re.search(r"^In `(\w+)`, add:\n\n```python\n(.*?)^```", page, re.S | re.M).groups()
    presets = copy / "faceoff" / "presets.py"
    text = presets.read_text()
    assert f"\n{where} = (\n" in text
    presets.write_text(text.replace(f"\n{where} = (\n", f"\n{where} = (\n{line}", 1))

    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.S | re.M)
    for command in commands.splitlines():
        done = subprocess.run(command.split(), cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout.strip().splitlines()[-1])["status"] == "ok"
    manifest = json.loads((copy / "artifacts" / "tiny" / "manifest.json").read_text())
    assert manifest["metrics"]["served_accuracy"]["torch"] > 0.8
