"""Make the environment: `.venv/` from the requirements, at the versions in constraints.txt. Standard library only.

`python3.11 -m faceoff.bootstrap --device auto` is what `make setup` runs. The stamp file is written last; every
make target compares it with the requirements.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from faceoff import cli
from faceoff.errors import FaceoffError, UsageError, unknown

REQUIREMENTS = Path("requirements")
GPU_DRIVER = Path("/proc/driver/nvidia/version")


def setup(args: argparse.Namespace) -> dict[str, Any]:
    """Create or bring up to date the environment; everything pip says goes to stderr."""
    if not REQUIREMENTS.is_dir():
        raise UsageError(f"found no {REQUIREMENTS}/ in {Path.cwd()}: expected the project's root; run make there")
    if args.device not in ("auto", "cpu", "cuda"):
        raise unknown("device", args.device, ["auto", "cpu", "cuda"], "DEVICE")
    if args.device == "cuda" and not GPU_DRIVER.exists():
        raise UsageError("DEVICE=cuda: found no NVIDIA driver (/proc/driver/nvidia); expected one; use DEVICE=cpu")
    device = "cuda" if GPU_DRIVER.exists() and args.device != "cpu" else "cpu"
    python = args.venv / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(args.venv)], "make a virtual environment (is the venv module installed?)")
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    pinned = ["-c", str(REQUIREMENTS / "constraints.txt")]
    # torch comes first and alone, so that --index-url of PyTorch's own wheels touches nothing else.
    index = ["--index-url", args.torch_index] if args.torch_index else []
    _run([*pip, *pinned, *index, "torch"], "install torch")
    device_file = REQUIREMENTS / ("gpu.txt" if device == "cuda" else "cpu.txt")
    files = [REQUIREMENTS / "base.txt", device_file, REQUIREMENTS / "dev.txt"]
    _run([*pip, *pinned, *(part for file in files for part in ("-r", str(file)))], "install the requirements")
    _run([*pip, *pinned, "--no-deps", "-r", str(REQUIREMENTS / "no-deps.txt")], "install tensorflow-serving-api")
    _run([str(python), "-m", "serving.torchserve.stubs"], "generate TorchServe's gRPC stubs")
    args.stamp.write_text(f"{device}\n", encoding="utf-8")
    return {"venv": str(args.venv), "device": device}


def _run(command: list[str], purpose: str) -> None:
    """Run one command, its lines on stderr as they come, without the hundred that say nothing happened."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith(("Requirement already satisfied", "Looking in ")):
                print(line, end="", file=sys.stderr, flush=True)
    if process.returncode != 0:
        shown = " ".join(command[:6])
        raise FaceoffError(f"could not {purpose}: `{shown} …` ended with exit code {process.returncode}")


def main(argv: list[str] | None = None) -> int:
    """`python3.11 -m faceoff.bootstrap`."""
    parser = cli.Parser(prog="python -m faceoff.bootstrap", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--torch-index", default="", help="index of PyTorch's own wheels, e.g. for CPU-only ones")
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="folder to make (default: %(default)s)")
    parser.add_argument(
        "--stamp", type=Path, default=Path(".venv/.ready"), help="file that says it is done (default: %(default)s)"
    )
    return cli.run(parser, setup, argv)


if __name__ == "__main__":
    raise SystemExit(main())
