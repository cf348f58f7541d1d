"""Any endpoint: `--url URL --body FILE` or `--grpc HOST:PORT --method /pkg.Service/Method --body FILE`.

FILE is one request body (for gRPC a serialized message) or a folder of them, sent in random order; `--expect` is a file
or a folder with the same names. The same rows, rules and summary.json as for a deployed endpoint.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError
from loadtest.answers import against_bodies
from loadtest.options import Options
from loadtest.targets import Pool, Target, destination

NAME = "custom"  # as server and as model
_MAX_POOL_BYTES = 1 << 30


def asked_for(options: Options) -> bool:
    """Whether the options name an endpoint of the user's own. Raises UsageError for half of one."""
    named = [name for name in ("url", "grpc") if getattr(options, name)]
    if len(named) > 1:
        raise UsageError("--url and --grpc: expected one of them")
    if not named:
        others = [name for name in ("body", "expect", "method", "content_type", "tolerance") if getattr(options, name)]
        if others:
            raise UsageError(f"--{others[0].replace('_', '-')} is for an endpoint of your own: expected --url or --grpc too")
        return False
    if not options.body:
        raise UsageError(f"--{named[0]} without --body: expected a file with the request's body")
    for name in ("servers", "protocols", "encodings", "rows", "version"):
        if getattr(options, name):
            raise UsageError(f"--{name} is for deployed endpoints: an endpoint given by --{named[0]} gets the body as it is")
    other = {"url": "method", "grpc": "content_type"}[named[0]]
    if getattr(options, other):
        raise UsageError(f"--{other.replace('_', '-')} says nothing to an endpoint given by --{named[0]}: expected none")
    return True


def target(options: Options, scenarios: tuple[str, ...]) -> Target:
    """The one target of a run against the user's own endpoint. Raises UsageError."""
    names, bodies = _bodies(options.body, "--body")
    problem = None
    if options.expect:
        problem = against_bodies(_expected(options.expect, names), options.tolerance)
    if options.grpc:
        host, port = destination(options.grpc)
        protocol, path, content_type = "grpc", options.method, ""
        service, _, method = path.lstrip("/").partition("/")
        if not path.startswith("/") or not service or not method or "/" in method:
            raise UsageError(f"--method {path!r}: expected the full name of a unary method, /package.Service/Method")
    else:
        try:
            parts = urlsplit(options.url)
            port_given = parts.port
        except ValueError as error:
            raise UsageError(f"--url {options.url!r}: {error}; expected http://HOST:PORT/path") from error
        if parts.scheme != "http":
            raise UsageError(f"--url {options.url!r}: expected http://HOST:PORT/path (there is no TLS on loopback)")
        host, port = destination(parts.netloc if port_given else f"{parts.netloc}:80")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        protocol, content_type = "rest", options.content_type or _content_type(names[0])
    if not path.isascii() or any(ord(character) <= 32 for character in path + content_type):
        raise UsageError(f"path {path!r} or content type {content_type!r}: expected visible ASCII characters")
    endpoint = Endpoint(
        server=NAME,
        model=NAME,
        version=0,
        rest_url=options.url,
        grpc_target=options.grpc,
        metrics_url=None,
        device="",
        settings={},
        artifact_format="",
        precision="",
        tolerance=options.tolerance,
        implementation=options.url or options.grpc,
        export_sha256="",
    )
    return Target(
        endpoint=endpoint,
        protocol=protocol,
        encoding="bytes",
        host=host,
        port=port,
        path=path,
        content_type=content_type,
        pool=lambda: Pool(payloads=bodies),
        problem=problem,
        scenarios=scenarios,
    )


def _bodies(name: str, option: str) -> tuple[list[str], tuple[bytes, ...]]:
    path = Path(name)
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{option} {name}: an empty folder; expected a file for each request")
    try:
        if sum(file.stat().st_size for file in files) > _MAX_POOL_BYTES:
            raise UsageError(f"{option} {name}: more than {_MAX_POOL_BYTES >> 20} MiB")
        return [file.name for file in files], tuple(file.read_bytes() for file in files)
    except OSError as error:
        raise UsageError(f"{option} {name}: {error.strerror}; expected a file or a folder of files") from error


def _expected(name: str, names: list[str]) -> tuple[bytes, ...]:
    found, bodies = _bodies(name, "--expect")
    if not Path(name).is_dir():
        return bodies * len(names)  # every request has the same answer
    if found != names:
        raise UsageError(f"--expect {name}: its files are not named like the bodies")
    return bodies


def _content_type(name: str) -> str:
    return "application/json" if name.endswith(".json") else "application/octet-stream"
