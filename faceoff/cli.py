"""The shape of every command: options in, progress on stderr, one JSON line last on stdout, an exit code.

    def main(argv=None) -> int:
        parser = cli.Parser(prog="python -m export.export", description=__doc__)
        ...
        return cli.run(parser, export, argv)

    if __name__ == "__main__":
        raise SystemExit(main())

`export(args) -> dict` returns what goes on the JSON line beside `"status"`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from faceoff.errors import FaceoffError, UsageError, unknown
from faceoff.store import Store, roots_of


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are `UsageError`s, so that they too end in a JSON line."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(**kwargs)

    def error(self, message: str) -> NoReturn:
        """Turn argparse's own exit into the exception that `run` reports."""
        raise UsageError(f"{message} (see {self.prog} --help)")

    def add_store(self) -> None:
        """Add where artifacts and results live; the defaults are the folders the Makefile uses."""
        self.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="artifact root (default: %(default)s)")
        self.add_argument("--results", type=Path, default=Path("results"), help="results root (default: %(default)s)")

    def add_model(self) -> None:
        """Add --model, validated later against presets/models."""
        self.add_argument("--model", default="cnn", help="a name from presets/models (default: %(default)s)")


def store(args: argparse.Namespace) -> Store:
    """The `Store` that `add_store`'s options name. Raises UsageError for a file among them."""
    return Store(artifacts=args.artifacts, results=args.results)


def comma_list(text: str) -> list[str]:
    """`"rest, grpc"` -> `["rest", "grpc"]`; empty parts are dropped."""
    return [part.strip() for part in text.split(",") if part.strip()]


def names(text: str, kind: str, variable: str, known: Collection[str] = ()) -> list[str]:
    """A comma list of one or more different names, of `known` ones where these are given; in the order of the user's.

    Raises UsageError that says which `variable` to set.
    """
    found = comma_list(text)
    for name in found:
        if known and name not in known:
            raise unknown(kind, name, list(known), variable)
    if not found or len(set(found)) < len(found):
        which = f"of {', '.join(sorted(known))}, " if known else ""
        raise UsageError(f"{variable}={text}: expected one or more different {kind}s, {which}with commas between")
    return found


def positive_int(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text}")
    return value


def port(text: str) -> int:
    """An argparse type: a TCP port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"expected 1 to 65535, got {text!r}")
    return int(text)


def print_json(payload: dict[str, Any]) -> None:
    """Print the one line that programs read."""
    print(json.dumps(payload, sort_keys=False), flush=True)


def run(parser: Parser, command: Callable[[argparse.Namespace], dict[str, Any]], argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, run `command`, print its JSON line; returns the exit code (0 ok, 1 fault, 2 usage, 3 invalid)."""
    # A `kill` or a closed terminal must clean up like Ctrl-C does: the `finally` blocks own servers and half-written folders.
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it, and that stays
        signal.signal(signal.SIGHUP, _interrupt)
    # grpcio would start its threads again in every forked child, whose descriptors are closed before its exec: it may abort.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        args = parser.parse_args(argv)
        with roots_of(vars(args)):
            result = command(args)
    except FaceoffError as error:
        print(f"{parser.prog}: {error.status}: {error}", file=sys.stderr, flush=True)
        print_json({"status": error.status, "error": str(error), **error.details})
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr, flush=True)
        print_json({"status": "fault", "error": "interrupted"})
        return 1
    except Exception as error:  # the last line must be there whatever broke
        traceback.print_exc()
        print_json({"status": "fault", "error": f"{type(error).__name__}: {error}"})
        return 1
    print_json({"status": "ok", **result})
    return 0


def _interrupt(signum: int, frame: object) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGHUP):  # a second signal must not cut the clean-up short
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """For the block that imports TensorFlow: its start-up log, which no setting silences, is shown only on a failure.

    oneDNN is switched on for every process alike; TensorFlow's own default depends on the processor.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(kept, log.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
