"""Where everything lies on disk.

artifacts/<model>/                      one trained instance (manifest.json of training)
artifacts/<model>/export/<version>/     servables of it (manifest.json of export)
artifacts/<model>/export/<version>/verify/   the proof that they are right (manifest.json of verify)
artifacts/endpoints.json                what is deployed now
artifacts/deploy/                       state, logs and configuration of the running servers
results/<run>/                          samples/, summary.json, report.html
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceoff.errors import UsageError

_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, kw_only=True)
class Store:
    """The two roots and the places under them. Raises UsageError for a root that is a file, or below one."""

    artifacts: Path = Path("artifacts")
    results: Path = Path("results")

    def __post_init__(self) -> None:
        # Whether a root can be written is not asked here: many a command only reads it (`roots_of` sees to the others).
        for option, root in (("artifacts", self.artifacts), ("results", self.results)):
            if found := _file_on(root):
                raise UsageError(f"--{option} {root}: {found} is no folder, expected one or the name of a new one{_set(option)}")

    def model_dir(self, model: str) -> Path:
        """The trained instance of `model`."""
        return self.artifacts / model

    def export_dir(self, model: str, version: int) -> Path:
        """The servables of `model` at `version`."""
        return self.artifacts / model / "export" / str(version)

    def verify_dir(self, model: str, version: int) -> Path:
        """The verification record of the servables at `version`."""
        return self.export_dir(model, version) / "verify"

    @property
    def endpoints(self) -> Path:
        """The list of deployed endpoints."""
        return self.artifacts / "endpoints.json"

    @property
    def deploy_dir(self) -> Path:
        """State, logs and configuration of the running servers."""
        return self.artifacts / "deploy"

    def run_dir(self, run: str) -> Path:
        """The results of one run. Raises UsageError for a name that is not one plain folder name."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run):
            raise UsageError(f"run name {run!r}: expected letters, digits, '.', '_' or '-' (set RUN=...)")
        return self.results / run


@contextmanager
def roots_of(options: Mapping[str, Any]) -> Iterator[None]:
    """Raise UsageError for an OSError in the block that comes of a root: it cannot be made, or is not ours to read or write."""
    try:
        yield
    except OSError as error:
        for option in ("artifacts", "results"):
            root = options.get(option)
            if isinstance(root, Path) and _comes_of(root, error):
                raise UsageError(
                    f"--{option} {root}: {error.strerror} ({error.filename}); "
                    f"expected a folder that can be made, read and written{_set(option)}"
                ) from error
        raise


def _comes_of(root: Path, error: OSError) -> bool:
    if not isinstance(error.filename, str | Path):
        return False
    root, place = Path(os.path.realpath(root)), Path(os.path.realpath(error.filename))
    below = place.is_relative_to(root)
    if _is_folder(root):  # then anything else is a fault of ours
        return below and error.errno in _DENIED
    return below or root.is_relative_to(place)


def _file_on(path: Path) -> Path | None:
    """What is no folder and stands where `path` or a folder above it should."""
    there = next((place for place in (path, *path.parents) if _mode(place)), None)
    return None if there is None or _is_folder(there) else there


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    """0 where nothing is, or nothing that we may see."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _set(option: str) -> str:
    return f" (set {option.upper()}=...)"


@contextmanager
def replacing_directory(final: Path) -> Iterator[Path]:
    """Build a folder beside `final` and put it in place only when the block ends well.

    A reader sees the old folder or the new one, never half of either; a failed block leaves the old one.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        yield work
        work.chmod(0o755)
        old = work.with_name(work.name + "-old")
        if final.exists():
            final.rename(old)
        work.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_atomic(path: Path, text: str) -> None:
    """Write `text` so that a reader sees all of it or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
