"""Make the environments of the formats whose tools are not in .venv: `make setup-formats`.

`python -m export.setup_formats` makes .venv-formats/<name>/ from requirements/formats-<name>.txt, one for each file. pip
resolves first, without installing: an environment that cannot be had beside this project's torch and TensorFlow, or that
would fetch a CUDA build, is left out, and why is kept where the export finds it (unsupported.txt).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from export.formats import ENVIRONMENTS, NOT_HAD
from faceoff import cli, progress
from faceoff.errors import FaceoffError
from faceoff.processes import ROOT

_REASON_CHARACTERS = 400


def setup(args: argparse.Namespace) -> dict[str, Any]:
    """Make what is missing; returns the state of every environment."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    files = sorted((ROOT / "requirements").glob("formats-*.txt"))
    found = [_environment(file, args.torch_index) for file in files]
    rows = [[item["name"], item["status"], item["reason"] or ""] for item in found]
    progress.table("Environments of formats", ["environment", "status", "reason"], rows)
    return {"environments": found}


def _environment(file: Path, torch_index: str) -> dict[str, Any]:
    name = file.stem.removeprefix("formats-")
    directory = ENVIRONMENTS / name
    wanted = file.read_text(encoding="utf-8")
    ready = directory / ".ready"
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted:
        return {"name": name, "status": "ready", "reason": None}
    shutil.rmtree(directory, ignore_errors=True)
    progress.say(f"setup-formats: {name}")
    _run([sys.executable, "-m", "venv", str(directory)])
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(file)]
    pip += ["--extra-index-url", torch_index] if torch_index else []
    resolved = _run([*pip, "--dry-run"], check=False)
    reason = why_not(resolved)
    if reason is None:
        _run(pip)
        ready.write_text(wanted, encoding="utf-8")
        return {"name": name, "status": "ready", "reason": None}
    shutil.rmtree(directory)
    directory.mkdir()
    (directory / NOT_HAD).write_text(reason + "\n", encoding="utf-8")
    return {"name": name, "status": "unsupported", "reason": reason}


def why_not(resolved: subprocess.CompletedProcess[str]) -> str | None:
    """Why what pip resolved is not to be installed, or None."""
    if resolved.returncode != 0:
        return resolver_message(resolved.stdout + resolved.stderr)
    would = next((line for line in resolved.stdout.splitlines() if line.startswith("Would install ")), "")
    if cuda := re.findall(r"\bnvidia-(?!ml-py)[\w-]+-\d[\w.]*|\btriton-\d[\w.]*", would):
        return f"pip would fetch a CUDA build ({cuda[0]} and {len(cuda) - 1} more): set TORCH_INDEX to PyTorch's CPU wheels"
    return None


def resolver_message(text: str) -> str:
    """What pip says of a conflict, in one line: who wants what, each once, and the error."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if " depends on " in line or line.startswith(("The user requested", "ERROR:"))]
    message = "; ".join(dict.fromkeys(line.removeprefix("ERROR: ") for line in said)) or "pip could not resolve it"
    return message if len(message) <= _REASON_CHARACTERS else message[: _REASON_CHARACTERS - 1] + "…"


def _run(command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise FaceoffError(f"`{' '.join(command[:4])} …` ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done


def main(argv: list[str] | None = None) -> int:
    """`python -m export.setup_formats`."""
    parser = cli.Parser(prog="python -m export.setup_formats", description=__doc__)
    parser.add_argument("--torch-index", default="", help="index of PyTorch's own wheels, e.g. for CPU-only ones")
    return cli.run(parser, setup, argv)


if __name__ == "__main__":
    raise SystemExit(main())
