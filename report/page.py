"""What a page is made of. Sections build these; html.py and markdown.py write them; nothing here knows either.

Text may hold `code` and **bold**; everything else in it is shown as it stands, escaped by the writers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from report.identity import Series

Tone = Literal["", "good", "bad", "warn", "info"]


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    lead: bool = False


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading inside a section (level 3)."""

    kind: ClassVar[str] = "heading"
    text: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something the reader must not miss."""

    kind: ClassVar[str] = "notice"
    title: str
    text: str = ""
    items: Sequence[str] = ()
    tone: Tone = "info"


@dataclass(frozen=True, kw_only=True)
class Card:
    """One figure to take away: `value` large, `label` above it, `note` below."""

    label: str
    value: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True, kw_only=True)
class Cards:
    """A row of cards."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A list of terms and what they are; `title` is for screen readers."""

    kind: ClassVar[str] = "facts"
    title: str
    facts: Sequence[tuple[str, str]]
    code: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's head; numbers are set right."""

    title: str
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: text, a smaller second line, a badge's tone or a series' swatch."""

    text: str
    note: str = ""
    tone: Tone = ""
    series: Series | None = None
    code: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a caption; the first cell of each row is its head."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A Plotly figure: `label` says in words what it shows, `legend` names its series."""

    kind: ClassVar[str] = "plot"
    id: str
    title: str
    figure: dict[str, Any]
    label: str
    caption: str
    legend: Sequence[Series] = ()


@dataclass(frozen=True, kw_only=True)
class Code:
    """Commands or a record, verbatim; behind a fold when `fold` gives it a title."""

    kind: ClassVar[str] = "code"
    text: str
    label: str
    fold: bool = False


Block = Text | Heading | Notice | Cards | Facts | Table | Plot | Code


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page (level 2) with its entry in the table of contents."""

    id: str
    title: str
    blocks: Sequence[Block]
    short: str = ""  # the table of contents has little room


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole report."""

    run: str
    title: str
    subtitle: str
    lead: Sequence[Block]
    sections: Sequence[Section] = field(default_factory=list)


def plots(page: Page) -> list[Plot]:
    """Every plot of the page, in reading order."""
    blocks = [*page.lead, *(block for section in page.sections for block in section.blocks)]
    return [block for block in blocks if isinstance(block, Plot)]
