"""The report in a real browser: Debian's chromium, driven by playwright, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from report import build
from tests.fakes import comparison, records

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser is installed (apt-get install chromium)")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
EXPECTED = {
    "plot-artifacts",
    "plot-wire",
    "plot-losses",
    "plot-steps",
    *(
        f"plot-{kind}-{scenario}"
        for kind in ("throughput", "percentiles", "distribution", "time")
        for scenario in ("closed", "server")
    ),
}
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
RENDERED = """() => Object.fromEntries([...document.querySelectorAll('.js-plotly-plot')].map(plot => [plot.id, {
    svg: plot.querySelectorAll('svg.main-svg').length,
    traces: plot.data.length,
    drawn: plot.querySelectorAll('.trace path, .points path, .js-line').length,
    color: plot._fullLayout.font.color,
    left: plot.getBoundingClientRect().left,
    right: plot.getBoundingClientRect().right,
}]))"""
# An axis' title lies under its panel and inside the figure: names of the plots where one does not.
COVERED = """() => [...document.querySelectorAll('.js-plotly-plot')].filter(plot => {
    const box = element => element.getBoundingClientRect();
    const panels = [...plot.querySelectorAll('.draglayer .nsewdrag')].map(panel => box(panel).bottom);
    const titles = [...plot.querySelectorAll('text')].filter(text => /^x\\d*title$/.test(text.getAttribute('class'))).map(box);
    return titles.some(title => title.top < Math.max(...panels) || title.bottom > box(plot).bottom + 1);
}).map(plot => plot.id)"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = records.write_run(tmp_path_factory.mktemp("results"))
    records.edit(run / "summary.json", lambda s: s["measurements"][3].update(valid=False, invalid_reasons=["late by 3 ms"]))
    assert build.main(["--run", run.name, "--results", str(run.parent)]) == 0
    return run / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Open the report in a window of its own; whatever the console or the page complains of fails the test."""
    problems: list[str] = []
    contexts = []

    def refuse(route: Any) -> None:
        if route.request.url.startswith(("http:", "https:", "ws:", "wss:")):
            problems.append(f"asked the network for {route.request.url}")
            route.abort()
        else:
            route.continue_()

    def open_(path: Path, viewport: dict[str, int], scheme: str = "light", **more: Any) -> Any:
        context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True, **more)
        contexts.append(context)
        context.route("**/*", refuse)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
        page.on("dialog", lambda dialog: (problems.append(f"a record ran: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", timeout=60_000)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = comparison.write_run(tmp_path_factory.mktemp("results"), repeats=3)
    assert build.main(["--run", run.name, "--results", str(run.parent)]) == 0
    return run / "report.html"


def overflow(page: Any) -> int:
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_every_plot_is_drawn_and_fits_any_window(opened, report):
    page = opened(report, DESKTOP)
    plots = page.evaluate(RENDERED)
    assert set(plots) == EXPECTED
    for name, plot in plots.items():
        assert plot["svg"] > 0 and plot["traces"] > 0 and plot["drawn"] > 0, name
    assert overflow(page) == 0
    assert page.evaluate(COVERED) == []
    assert page.locator(".toc").evaluate("e => getComputedStyle(e).position") == "sticky"
    assert page.locator(".plot[aria-label]").count() == len(EXPECTED)
    assert page.get_by_text("late by 3 ms").is_visible()

    shown = "() => document.getElementById('plot-throughput-closed')._fullData.filter(trace => trace.visible === true).length"
    button = page.locator("button[data-plot=plot-throughput-closed]", has_text="tfserving-embedded")
    assert page.evaluate(shown) == 2
    button.click()
    assert page.evaluate(shown) == 1 and button.get_attribute("aria-pressed") == "false"
    button.click()
    assert page.evaluate(shown) == 2 and button.get_attribute("aria-pressed") == "true"

    page.set_viewport_size(PHONE)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.main-svg')].every(svg => svg.getBoundingClientRect().width < 390)"
    )
    assert overflow(page) == 0


def test_a_dark_phone_shows_all_of_it_without_scrolling_sideways(opened, report):
    page = opened(report, PHONE, "dark", has_touch=True)
    assert overflow(page) == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 26)"
    dark = page.evaluate(RENDERED)
    for name, plot in dark.items():
        assert plot["left"] >= 0 and plot["right"] <= PHONE["width"], name
    # the reader's evening ends while the page is open
    page.emulate_media(color_scheme="light")
    page.wait_for_selector("html[data-drawn=light]")
    assert page.evaluate(RENDERED)["plot-losses"]["color"] != dark["plot-losses"]["color"]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 250, 248)"


def test_hostile_records_run_nothing_and_it_prints(opened, tmp_path):
    run = records.write_run(tmp_path)
    hostile = "<img src=x onerror=alert(1)></script><script>alert(2)</script>`**"

    def poison(summary):
        summary["measurements"][0].update(valid=False, invalid_reasons=[hostile], encoding=hostile)
        summary["measurements"][1]["server"] = hostile

    records.edit(run / "summary.json", poison)
    assert build.main(["--run", run.name, "--results", str(run.parent)]) == 0
    page = opened(run / "report.html", DESKTOP)
    assert page.locator("main img").count() == 0
    assert page.locator("main").inner_text().count(hostile) >= 3
    assert len(page.pdf()) > 50_000


def test_a_comparison_is_clicked_through(opened, compared):
    page = opened(compared, DESKTOP)
    assert page.locator("#top .notice").first.inner_text().count(" times (") >= 1  # the verdict with its interval
    drawn = page.evaluate(RENDERED)
    wanted = {"plot-verdict-0-1", "plot-curves", "plot-visits-server", "plot-breakdown", "plot-ways-throughput", "plot-trials"}
    assert wanted <= set(drawn)
    for name in wanted:
        assert drawn[name]["svg"] > 0 and drawn[name]["traces"] > 0, name
    assert page.evaluate(COVERED) == []
    # every entry of the contents leads to its section
    for entry in page.locator(".toc ol a").all():
        entry.click()
        target = page.locator(f"section{entry.get_attribute('href')}")
        page.wait_for_function("e => Math.abs(e.getBoundingClientRect().top) < innerHeight", arg=target.element_handle())
    # the legends of the comparison's own plots switch their lines off and on again
    count = (
        "([plot, series]) => document.getElementById(plot)._fullData.filter(t => t.legendgroup === series && t.visible).length"
    )
    for plot in sorted(wanted):
        for button in page.locator(f".legend button[data-plot={plot}]").all()[:1]:
            line = [plot, button.get_attribute("data-series")]
            before = page.evaluate(count, line)
            assert before > 0, line
            button.click()
            assert page.evaluate(count, line) == 0, line
            button.click()
            assert page.evaluate(count, line) == before, line
    for fold in page.locator("details").all():
        fold.locator("summary").click()
        assert fold.locator("pre").is_visible()


def test_a_comparison_fits_a_dark_phone(opened, compared):
    page = opened(compared, PHONE, "dark", has_touch=True)
    assert overflow(page) == 0
    assert page.evaluate(COVERED) == []
    for name, plot in page.evaluate(RENDERED).items():
        assert plot["left"] >= 0 and plot["right"] <= PHONE["width"], name
    # a heat map's figures are read on its own colours, whatever the page's
    assert (
        page.locator("#plot-ways-throughput .heatmap-label text").first.evaluate("e => getComputedStyle(e).fill")
        == "rgb(28, 33, 40)"
    )
