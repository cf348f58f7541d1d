"""Stop every server that deploy started. `python -m serving.undeploy`; doing it twice is no error.

A stop is a SIGTERM, and what had been accepted by then may be lost: the embedded server answers it first, TorchServe drops its
REST requests. Before the stop each server is asked how many wait (`waiting`; null: it does not tell).
"""

from __future__ import annotations

import argparse
from typing import Any

from faceoff import cli, endpoints, progress
from faceoff.errors import FaceoffError
from faceoff.store import Store
from serving import state
from serving.servers import server_class


def undeploy(args: argparse.Namespace) -> dict[str, Any]:
    """Stop by pid and start time; returns the names of the servers that were running, and what waited in them."""
    store = cli.store(args)
    with state.lock(store, "undeploy"):
        asked = waiting(store)
        stopped = state.stop_all(store, forget=args.forget)
    progress.say(f"undeploy: stopped {', '.join(stopped)}" if stopped else "undeploy: nothing was running")
    for server, number in asked.items():
        if number:
            progress.say(f"undeploy: {server} had {number} requests waiting when it was stopped, and does not answer all such")
    return {"stopped": stopped, "waiting": asked}


def waiting(store: Store) -> dict[str, int | None]:
    """Of each deployed server, the accepted requests that a stop may lose; {} where nothing is deployed."""
    try:
        found = endpoints.read(store)
    except FaceoffError:
        return {}
    asked: dict[str, int | None] = {}
    for endpoint in found:
        number = server_class(endpoint.server).waiting(endpoint)
        before = asked.setdefault(endpoint.server, None)
        asked[endpoint.server] = before if number is None else number + (before or 0)
    return asked


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.undeploy`."""
    parser = cli.Parser(prog="python -m serving.undeploy", description=__doc__)
    forget = "drop the record of containers that cannot be taken down any more (their cluster or engine has gone)"
    parser.add_argument("--forget", action="store_true", help=forget)
    parser.add_store()
    return cli.run(parser, undeploy, argv)


if __name__ == "__main__":
    raise SystemExit(main())
