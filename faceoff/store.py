"""Where everything lies on disk.

artifacts/<model>/                      one trained instance (manifest.json of training)
artifacts/<model>/export/<version>/     servables of it (manifest.json of export)
artifacts/<model>/export/<version>/verify/   the proof that they are right (manifest.json of verify)
artifacts/endpoints.json                what is deployed now
artifacts/deploy/                       state, logs and configuration of the running servers
results/<run>/                          samples/, summary.json, report.html
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faceoff.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Store:
    """The two roots and the places under them."""

    artifacts: Path = Path("artifacts")
    results: Path = Path("results")

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
