"""Open TensorBoard on the logs of one model's training, both frameworks in the same charts.

`python -m training.board --model cnn` shows artifacts/<model>/; with `--run NAME` it shows every run that a study or a
comparison kept under results/NAME/training/. On loopback only, until Ctrl-C or for `--for-s` seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from faceoff import cli, presets, processes, progress
from faceoff.errors import FaceoffError, MissingStageError, UsageError
from training import ports

START_S = 90.0  # TensorBoard imports TensorFlow
HOUR_S = 3600.0


def board(args: argparse.Namespace) -> dict[str, Any]:
    """Serve the logs; returns where they were and what they held."""
    presets.model(args.model)
    directory = log_directory(args)
    port = args.port or ports.free(1)[0]
    if args.for_s < 0:
        raise UsageError(f"--for-s {args.for_s:g}: expected seconds of at least 0")
    url = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        command = ["-m", "tensorboard.main", "--logdir", str(directory), "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=processes.environment({"TF_CPP_MIN_LOG_LEVEL": "2"}),
            preexec_fn=processes.die_with_parent,  # noqa: PLW1509  started before any thread
        )
        try:
            runs = _wait(process, url, log)
            progress.say(f"board: {url} shows {', '.join(runs)}; Ctrl-C ends it, as do {args.for_s:.0f} s")
            _stay(process, args.for_s)
        finally:
            processes.stop_tree(process.pid)
            process.wait()
    return {"url": url, "directory": str(directory), "runs": runs}


def log_directory(args: argparse.Namespace) -> Path:
    """The folder whose logs are shown. Raises MissingStageError when it holds none."""
    store = cli.store(args)
    directory = store.run_dir(args.run) / "training" if args.run else store.model_dir(args.model)
    if not any(directory.rglob("events.out.tfevents.*")):
        command = f"make train MODEL={args.model}" + (f" MODES=default RUN={args.run}" if args.run else "")
        raise MissingStageError(f"found no TensorBoard logs under {directory}: expected those of a training; run: {command}")
    return directory


def _wait(process: subprocess.Popen[bytes], url: str, log: IO[str]) -> list[str]:
    """The names of the runs, once TensorBoard answers and has read some. Raises FaceoffError when it does not."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # on loopback, whatever http_proxy says
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with direct.open(f"{url}data/runs", timeout=5) as answer:
                runs = sorted(json.load(answer))
            if runs:
                return runs
        except (urllib.error.URLError, OSError, ValueError):
            pass  # not there yet
        time.sleep(0.2)
    log.seek(0)
    last = (log.read().strip().splitlines() or ["it said nothing"])[-1]
    raise FaceoffError(f"TensorBoard did not answer at {url} within {START_S:.0f} s: {last}")


def _stay(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return
    except KeyboardInterrupt:
        progress.say("board: stopping")
        return
    raise FaceoffError(f"TensorBoard ended by itself with exit code {process.returncode}")


def main(argv: list[str] | None = None) -> int:
    """`python -m training.board`."""
    parser = cli.Parser(prog="python -m training.board", description=__doc__)
    parser.add_model()
    parser.add_argument("--run", default="", help="show results/RUN/training/ instead of the model's artifact")
    parser.add_argument("--port", type=cli.port, default=None, help="port on 127.0.0.1; default: a free one")
    parser.add_argument("--for-s", type=float, default=HOUR_S, help="seconds until it ends by itself (default: %(default)g)")
    parser.add_store()
    return cli.run(parser, board, argv)


if __name__ == "__main__":
    raise SystemExit(main())
