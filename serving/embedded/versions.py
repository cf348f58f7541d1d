"""How a version is named, which version folders a base path holds, and the state a version is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from serving.embedded.errors import Code, ServingError


class State(IntEnum):
    """get_model_status.proto's ModelVersionStatus.State."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(kw_only=True)
class VersionStatus:
    """What GetModelStatus says of one version; it is kept after the version has gone."""

    version: int
    state: State = State.START
    code: Code = Code.OK
    message: str = ""
    folder: Path = field(default_factory=Path)

    def fail(self, error: ServingError) -> None:
        """A load that will not be tried again."""
        self.state, self.code, self.message = State.END, error.code, error.message


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """model.proto's ModelSpec: at most one of `version` and `label`."""

    name: str
    version: int | None = None
    label: str | None = None
    signature_name: str = ""


def folders(base_path: Path) -> dict[int, Path]:
    """Version number to folder; other names are ignored and `007` is 7. Raises OSError for a missing base path."""
    found = {}
    for entry in sorted(base_path.iterdir()):
        if entry.name.isascii() and entry.name.isdigit() and int(entry.name) < 2**63 and entry.is_dir():
            found[int(entry.name)] = entry
    return found
