"""What every writer does: its rows one after the other, each timed and described; one that its format cannot hold is a row too.

A writer (export_torch, export_tf, export_executorch) is a process of its own. It makes the files of the rows that `--only`
names and answers with one record a row, `exported` or `unsupported` with the converter's own words. Only what a converter
raises is `unsupported`: a full disk or a mistake of ours is a fault.
"""

from __future__ import annotations

import argparse
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export import formats
from faceoff import cli, progress, servables
from faceoff.errors import FaceoffError
from faceoff.servables import Trained

Write = Callable[[Any, Trained, Path, int], None]  # model, trained, path to write, version
_REASON_CHARACTERS = 300


class UnsupportedError(FaceoffError):
    """A form cannot hold this model, in the converter's words."""


@contextmanager
def converting() -> Iterator[None]:
    """Around the call of a converter and nothing else: what it raises, whatever that is, becomes UnsupportedError."""
    try:
        yield
    except (OSError, MemoryError, FaceoffError):
        raise  # nothing that the converter has against the model
    except Exception as error:  # converters raise whatever they like
        raise UnsupportedError(short(error)) from error


def parser(prog: str, description: str | None) -> cli.Parser:
    """The options that every writer takes."""
    options = cli.Parser(prog=prog, description=description)
    options.add_model()
    options.add_argument("--version", type=cli.positive_int, default=1, help="version of the servable (default: %(default)s)")
    options.add_argument("--out", type=Path, required=True, help="folder to write into")
    options.add_argument("--only", default="default", help="rows or formats, as FORMATS (default: %(default)s)")
    options.add_store()
    return options


def write_rows(args: argparse.Namespace, trained: Trained, model: Any, writers: Mapping[str, Write]) -> list[dict[str, Any]]:
    """Write the rows of `--only` whose names `writers` has. A default row that fails is a fault: no server could start."""
    return [_row(row, args, trained, model, writers[row.name]) for row in formats.select(args.only) if row.name in writers]


def _row(row: formats.Format, args: argparse.Namespace, trained: Trained, model: Any, write: Write) -> dict[str, Any]:
    file = row.file(args.model, args.version)
    path = args.out / file
    path.parent.mkdir(parents=True, exist_ok=True)
    progress.say(f"export: {args.model}, {row.name}")
    begin = time.perf_counter()
    try:
        write(model, trained, path, args.version)
    except UnsupportedError as error:
        if row.default:
            raise
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        return row.unsupported(args.model, args.version, str(error))
    seconds = time.perf_counter() - begin
    written = servables.describe(args.out, name=row.name, source=row.source, kind=row.format, path=file, export_s=seconds)
    return {**row.describe(args.model, args.version), **written, "status": "exported", "reason": None}


def short(error: BaseException) -> str:
    """A converter's error in one line, without the places in its graph that a compiler prints before what it says."""
    lines = [re.sub(r"^<unknown>:0: (error|note): |loc\(.*\): ", "", line.strip()) for line in str(error).splitlines()]
    said = " ".join(line for line in lines if line and line != "called from" and "loc(" not in line)
    text = f"{type(error).__name__}: {said}"
    return text if len(text) <= _REASON_CHARACTERS else text[: _REASON_CHARACTERS - 1] + "…"
