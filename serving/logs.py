"""What a server's log says: its last words, and the last line of a fault."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_TAIL_BYTES = 256 * 1024
# TorchServe: "... [ERROR] ..."; TensorFlow Serving and ours: "2026-01-02 03:04:05.678: E ..." (F is fatal);
# Python's and Java's own last words.
_FAULT = re.compile(
    r"\[(ERROR|FATAL)\s*\]|^\d{4}-\d\d-\d\d [\d:.,]+: [EF] |^(Fatal|Exception in|[A-Za-z_.]*Error: )|Killed|core dumped"
)


def last_words(path: Path, lines: int = 5) -> str:
    """The last lines of a log, on one line."""
    if not path.is_file():
        return "(no log)"
    return " | ".join(line.strip() for line in _tail(path)[-lines:] if line.strip()) or "(empty log)"


def last_fault(paths: Iterable[Path]) -> str | None:
    """The last line that tells of a fault, of the newest log that has one."""
    for path in sorted((p for p in paths if p.is_file()), key=lambda p: p.stat().st_mtime, reverse=True):
        for line in reversed(_tail(path)):
            if _FAULT.search(line):
                return line.strip()[:500]
    return None


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
