"""What lies in the folder of a run, by the kind of run: a folder is only ever replaced where nothing else is in it."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from faceoff.errors import UsageError

REPORT = ("report.html", "report.md", "against-*.html", "against-*.md")  # what the report adds to any of them
LOAD_TEST = ("samples", "records", "summary.json", *REPORT)
COMPARISON = ("capacity", "tuning", "visits", "floors", "records", "compare.json", "summary.json", *REPORT)


def check_replaceable(directory: Path, leaves: tuple[str, ...]) -> None:
    """Raise UsageError when `directory` is no folder, or holds what a run that leaves `leaves` did not leave."""
    if not directory.exists() and not directory.is_symlink():
        return
    if not directory.is_dir():
        raise UsageError(f"{directory} is a file: expected a folder that can be written as a whole; choose another (RUN=...)")
    others = sorted(path.name for path in directory.iterdir() if not any(fnmatch(path.name, pattern) for pattern in leaves))
    if others:
        raise UsageError(
            f"{directory} holds {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}, which would be removed with it: "
            "choose another (RUN=...), or move that away"
        )
