"""What people see while a command works: lines, a live bar, tables. All on stderr; stdout is for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

QUIET_INTERVAL_S = 5.0  # without a terminal a bar is a line every so many seconds


class Bar(Protocol):
    """Something that counts up."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` more; `note` is shown beside the count."""


def say(message: str) -> None:
    """One line for people."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def bar(description: str, total: int) -> Iterator[Bar]:
    """A live bar on a terminal, a line every few seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines(description, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    label, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
    columns = (label, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), note)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, note="")

        class _Live:
            def advance(self, amount: int = 1, note: str = "") -> None:
                progress.update(task, advance=amount, note=note)

        yield _Live()


class _Lines:
    def __init__(self, description: str, total: int) -> None:
        self._description, self._total, self._done, self._last = description, total, 0, time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if self._done >= self._total or now - self._last >= QUIET_INTERVAL_S:
            self._last = now
            say(f"{self._description}: {self._done}/{self._total} {note}".rstrip())


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people; cells are shown as `str()` makes them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    view = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        view.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        view.add_row(*map(str, row))
    width = None if sys.stderr.isatty() else 140
    Console(stderr=True, width=width, markup=False, highlight=False).print(view)
