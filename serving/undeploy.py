"""Stop every server that deploy started. `python -m serving.undeploy`; doing it twice is no error."""

from __future__ import annotations

import argparse
from typing import Any

from faceoff import cli, progress
from serving import state


def undeploy(args: argparse.Namespace) -> dict[str, Any]:
    """Stop by pid and start time; returns the names of the servers that were running."""
    store = cli.store(args)
    with state.lock(store, "undeploy"):
        stopped = state.stop_all(store)
    progress.say(f"undeploy: stopped {', '.join(stopped)}" if stopped else "undeploy: nothing was running")
    return {"stopped": stopped}


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.undeploy`."""
    parser = cli.Parser(prog="python -m serving.undeploy", description=__doc__)
    parser.add_store()
    return cli.run(parser, undeploy, argv)


if __name__ == "__main__":
    raise SystemExit(main())
