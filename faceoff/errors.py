"""The errors of the stack and the exit code each one becomes.

FaceoffError                1  fault: something of ours, or of the machine, broke
├── StageError              -  a stage run as a process failed; carries that stage's own exit code
├── UsageError              2  the user's mistake; the message says found, expected, what to do
│   ├── MissingStageError   2  an earlier stage has not run; names the command
│   └── CorruptError        2  a file is not what its manifest says
└── InvalidError            3  measured, but not to be believed; the reasons are in the message
"""

from __future__ import annotations

from typing import Any


class FaceoffError(Exception):
    """A fault. `status` and `exit_code` are what the command line makes of it; `details` join its JSON line."""

    exit_code = 1

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details = details or {}

    @property
    def status(self) -> str:
        """The word for the command's JSON line."""
        return {1: "fault", 2: "usage", 3: "invalid"}[self.exit_code]


class UsageError(FaceoffError, ValueError):
    """The user's mistake: one line that says what was found, what was expected and what to do."""

    exit_code = 2


class MissingStageError(UsageError):
    """A stage was asked for before the one it builds on."""


class CorruptError(UsageError):
    """A file on disk is not the one its manifest describes."""


class InvalidError(FaceoffError):
    """The measurement finished and must not be believed."""

    exit_code = 3


class StageError(FaceoffError):
    """A stage that ran as its own process failed with `exit_code`."""

    def __init__(self, message: str, exit_code: int = 1, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, details)
        self.exit_code = exit_code if exit_code in (1, 2, 3) else 1


def unknown(kind: str, found: str, known: list[str], variable: str) -> UsageError:
    """The one sentence for a name nobody knows, e.g. `unknown model 'cn': expected one of cnn (set MODEL=...)`."""
    return UsageError(f"unknown {kind} {found!r}: expected one of {', '.join(sorted(known))} (set {variable}=...)")
