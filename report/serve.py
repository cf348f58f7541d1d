"""A small site over all runs: a list with each run's verdict, and their reports, built when they are asked for.

    python -m report.serve            # prints http://127.0.0.1:PORT/

On loopback only, until Ctrl-C or for `--for-s` seconds. Reports and lists are read from results/ at each request, so a run that
ends meanwhile is there after a reload.
"""

from __future__ import annotations

import argparse
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from faceoff import cli, progress
from faceoff.errors import FaceoffError, UsageError
from faceoff.store import Store, write_atomic

HOST = "127.0.0.1"
HOUR_S = 3600.0
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_building = threading.Lock()  # Plotly and Jinja once at a time


def serve(args: argparse.Namespace) -> dict[str, Any]:
    """Serve until the time is over; returns where and what."""
    if args.for_s < 0:
        raise UsageError(f"--for-s {args.for_s:g}: expected seconds of at least 0")
    store = cli.store(args)
    try:
        server = ThreadingHTTPServer((HOST, args.port or 0), _handler(store))
    except OSError as error:
        raise UsageError(f"cannot listen on {HOST}:{args.port} ({error}): expected a free port, or none for any") from error
    server.daemon_threads = True
    url = f"http://{HOST}:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    names = runs(store)
    try:
        progress.say(f"report: {url} lists {len(names)} runs of {store.results}; Ctrl-C ends it, as do {args.for_s:.0f} s")
        time.sleep(args.for_s)
    except KeyboardInterrupt:
        progress.say("report: stopping")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return {"url": url, "runs": names}


def runs(store: Store) -> list[str]:
    """Every run that a report can be made of, the newest first."""
    found: dict[str, float] = {}
    for pattern in ("*/summary.json", "*/training/*/*/*.json"):
        for path in store.results.glob(pattern):
            name = path.relative_to(store.results).parts[0]
            if not name.endswith(".partial"):
                found[name] = max(found.get(name, 0.0), path.stat().st_mtime)
    return sorted(found, key=lambda name: (-found[name], name))


def report(store: Store, run: str) -> str:
    """A run's page: the file that is there, or a new one where it is missing or older than its records."""
    from report import compose, html, records

    directory = store.run_dir(run)
    path = directory / "report.html"
    with _building:
        if not path.is_file() or path.stat().st_mtime < _newest_record(directory):
            write_atomic(path, html.render(compose.page(records.load(run, directory))))
        return path.read_text(encoding="utf-8")


def _newest_record(directory: Path) -> float:
    patterns = ("summary.json", "compare.json", "records/*.json", "training/*/*/*.json")
    return max((path.stat().st_mtime for pattern in patterns for path in directory.glob(pattern)), default=0.0)


def _handler(store: Store) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers `/` and `/<run>/`; nothing else of the disk can be asked for."""

        def do_GET(self) -> None:
            """A page, or a sentence why not."""
            from report import html, index

            # A page elsewhere must not read this one under a name of its own (DNS rebinding).
            host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
            if host not in (HOST, "localhost"):
                self._answer(HTTPStatus.FORBIDDEN, html.message("Ask for http://127.0.0.1"))
                return
            run = unquote(urlsplit(self.path).path).strip("/")
            try:
                if not run:
                    self._answer(HTTPStatus.OK, html.index(index.rows(store, runs(store))))
                elif run in runs(store):
                    self._answer(HTTPStatus.OK, report(store, run))
                else:
                    self._answer(HTTPStatus.NOT_FOUND, html.message(f"There is no run {run!r} here."))
            except FaceoffError as error:
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, html.message(str(error)))

        def _answer(self, status: HTTPStatus, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """One line a request on stderr, where progress goes."""
            progress.say(f"report: {format % args}")

    return Handler


def main(argv: list[str] | None = None) -> int:
    """`python -m report.serve`."""
    parser = cli.Parser(prog="python -m report.serve", description=__doc__)
    parser.add_argument("--port", type=cli.port, default=None, help="port on 127.0.0.1; default: a free one")
    parser.add_argument("--for-s", type=float, default=HOUR_S, help="seconds until it ends by itself (default: %(default)g)")
    parser.add_store()
    return cli.run(parser, serve, argv)


if __name__ == "__main__":
    raise SystemExit(main())
