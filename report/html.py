"""Page -> one HTML file that needs nothing else: style, script, Plotly and the figures are inside.

Every value is escaped by Jinja (autoescape). `inline` is the one place that makes markup out of text, after
escaping it; figures travel as JSON in which `<`, `>` and `&` are written as escapes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from report import page as pages
from report.index import Row
from report.page import Page

TEMPLATES = Path(__file__).resolve().parent / "templates"


def render(page: Page) -> str:
    """The report as HTML."""
    from plotly.offline import get_plotlyjs

    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            figures={plot.id: plot.figure for plot in pages.plots(page)},
            style=_trusted("style.css"),
            script=_trusted("plots.js"),
            plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),  # noqa: S704 - Plotly's own code, not a record's
        )
    )


def index(rows: Sequence[Row]) -> str:
    """The site's list of runs."""
    return _environment().get_template("index.html.j2").render(rows=rows, message="", style=_trusted("style.css"))


def message(text: str) -> str:
    """The site's page where there is no other."""
    return _environment().get_template("index.html.j2").render(rows=[], message=text, style=_trusted("style.css"))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["inline"] = inline
    return environment


def inline(text: str) -> Markup:
    """Escape `text`, then turn `code` and **bold** into markup."""
    escaped = str(escape(text))
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", marked))  # noqa: S704 - escaped above


def _trusted(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - a file of this package
