"""What a load test inside Locust comes to: a results folder, or an error that the stage outside can report."""

from __future__ import annotations

import json
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faceoff import progress
from faceoff.errors import FaceoffError, InvalidError, StageError
from faceoff.store import replacing_directory, write_atomic
from loadtest.options import Options

FOLDER_VARIABLE = "FACEOFF_LOADTEST_FOLDER"  # set by loadtest.run, which owns the folder then
NAME = ".outcome.json"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`error` None: measured, and summary.json is there. Exit codes are those of every stage."""

    exit_code: int
    error: str | None = None


def produce(options: Options, *, folder: str | None, on_window: Any, share: tuple[int, int] = (0, 1)) -> Outcome:
    """Measure and write the results into `folder`; without one, replace results/<run> as a whole.

    `share`: which of how many workers this is.
    """
    from loadtest import measure, plan, summary

    try:
        planned = plan.make(options, share)
        for why in planned.left_out:
            progress.say(f"left out: {why}")
        place: AbstractContextManager[Path] = nullcontext(Path(folder)) if folder else replaced(planned.run_dir)
        with place as directory, closing(measure.run(planned, directory, on_window)) as measurements:
            found = summary.write(planned, directory, measurements)["measurements"]
        if not folder:
            summary.table(found)
            progress.say(f"summary: {planned.run_dir / summary.NAME}")
        result = Outcome(exit_code=0 if all(m["valid"] for m in found) else InvalidError.exit_code)
    except FaceoffError as error:
        result = Outcome(exit_code=error.exit_code, error=str(error))
    except Exception as error:  # Locust would log it and start the task again
        traceback.print_exc()
        result = Outcome(exit_code=1, error=f"{type(error).__name__}: {error}")
    if folder:
        write_atomic(Path(folder) / NAME, json.dumps(asdict(result)))
    elif result.error:
        print(f"load test: {result.error}", file=sys.stderr, flush=True)  # noqa: T201  Locust has no last line of ours
    return result


def take(folder: Path, locust_exit_code: int) -> None:
    """Read and remove what `produce` left in `folder`. Raises StageError with its error, or when it left nothing."""
    path = folder / NAME
    if not path.exists():
        raise StageError(f"Locust ended with exit code {locust_exit_code} before the load test did; its messages are above")
    result = Outcome(**json.loads(path.read_text(encoding="utf-8")))
    path.unlink()
    if result.error is not None:
        raise StageError(result.error, exit_code=result.exit_code)


@contextmanager
def replaced(directory: Path) -> Iterator[Path]:
    """`replacing_directory`, saying aloud that older results go. After a fault the rows so far stay in <run>.partial."""
    if directory.exists():
        progress.say(f"{directory} exists: it is replaced when this run has finished")
    with replacing_directory(directory) as folder:
        try:
            yield folder
        except FaceoffError as error:
            kept = _keep(folder, directory.with_name(f"{directory.name}.partial"))
            if kept is None:
                raise
            said = f"{error}\nthe rows so far are kept in {kept}"
            if isinstance(error, StageError):
                raise StageError(said, exit_code=error.exit_code) from error
            raise FaceoffError(said) from error


def _keep(folder: Path, place: Path) -> Path | None:
    """Move the samples of a run that failed to `place`, an older failure's place; None when there are none."""
    if not any(_num_rows(path) for path in (folder / "samples").glob("*.parquet")):
        return None
    if place.exists():
        shutil.rmtree(place)
    place.mkdir(parents=True)
    (folder / "samples").rename(place / "samples")
    return place


def _num_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError):  # a file without its end, which only a killed writer leaves (ArrowInvalid is a ValueError)
        return 0


def describe_status(protocol: str, status: int) -> str:
    """`status` of a row in words."""
    special = {-1: "connection failed", -2: "timed out"}
    return special.get(status) or (f"HTTP status {status}" if protocol == "rest" else f"gRPC code {status}")
