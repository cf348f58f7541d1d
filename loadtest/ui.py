"""Locust's Web UI with our options in its form: start a load test from the browser, watch it live.

Listens on 127.0.0.1 only and runs until Ctrl-C. Results are in results/<run>/ as always; Locust's own tables and
charts show the same requests with percentiles that Locust rounds.

For instance:
  python -m loadtest.ui --port 8089
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from faceoff import cli, processes, progress
from faceoff.errors import StageError


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Serve until Ctrl-C or SIGTERM. Raises StageError when Locust ends by itself."""
    store = cli.store(args)
    locustfile = Path(__file__).with_name("locustfile.py")
    roots = [f"--artifacts={store.artifacts}", f"--results={store.results}"]
    url = f"http://127.0.0.1:{args.port}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "locust", f"--locustfile={locustfile}", "--web-host=127.0.0.1"),
            *(f"--web-port={args.port}", "--users=1", "--skip-log-setup", *roots),
        ],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env=processes.environment(),
        start_new_session=True,  # Ctrl-C reaches this stage only, which then ends Locust once
        preexec_fn=processes.die_with_parent,  # noqa: PLW1509  no thread of ours runs
    )
    progress.say(f"Locust's Web UI: {url} (Ctrl-C ends it)")
    try:
        code = process.wait()
    except KeyboardInterrupt:
        return {"url": url, "ended": "by the user"}
    finally:
        if process.poll() is None:
            processes.stop_tree(process.pid)
            process.wait()
    raise StageError(f"Locust ended by itself with exit code {code}; its messages are above")


def main(argv: list[str] | None = None) -> int:
    """`python -m loadtest.ui`."""
    parser = cli.Parser(prog="python -m loadtest.ui", description=__doc__)
    parser.add_argument("--port", type=cli.port, default=8089, help="of the Web UI, WEB_PORT (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
