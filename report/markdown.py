"""Page -> Markdown: the same text and tables; a plot becomes the sentence that describes it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from report import page as pages
from report.page import Block, Page, Table


def render(page: Page) -> str:
    """The report as GitHub-flavoured Markdown."""
    parts = [f"# {_text(page.title)}", _text(page.subtitle), *(_block(block) for block in page.lead)]
    for section in page.sections:
        parts += [f"## {_text(section.title)}", *(_block(block) for block in section.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block) -> str:
    match block:
        case pages.Text():
            return _text(block.text)
        case pages.Heading():
            return f"### {_text(block.text)}"
        case pages.Notice():
            quoted = [
                f"**{_text(block.title)}**",
                *([_text(block.text)] if block.text else []),
                *(f"- {_text(item)}" for item in block.items),
            ]
            return "\n".join(f"> {line}" if index == 0 else f">\n> {line}" for index, line in enumerate(quoted))
        case pages.Cards():
            return "\n".join(f"- {_text(card.label)}: **{_text(card.value)}** ({_text(card.note)})" for card in block.cards)
        case pages.Facts():
            return "\n".join(f"- **{_text(term)}**: {_text(meaning)}" for term, meaning in block.facts)
        case pages.Table():
            return _table(block)
        case pages.Plot():
            return f"*Plot in report.html: {_text(block.title)}.* {_text(block.label)} {_text(block.caption)}"
        case pages.Code():
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", block.text)), default=0))
            fenced = f"{fence}\n{block.text}\n{fence}"
            return f"<details><summary>{_text(block.label)}</summary>\n\n{fenced}\n\n</details>" if block.fold else fenced


def _table(table: Table) -> str:
    lines = [
        _row([column.title for column in table.columns]),
        "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|",
        *(_row([f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in row]) for row in table.rows),
    ]
    return "\n\n".join([f"**{_text(table.caption)}**", "\n".join(lines), *([_text(table.note)] if table.note else [])])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_text(cell).replace("|", "\\|") for cell in cells) + " |"


def _text(text: str) -> str:
    """One line in which nothing is HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
