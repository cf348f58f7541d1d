"""Locust's Web UI in front of the load suite: our options in its form, runs started from it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faceoff import cores, processes
from loadtest.truth.behaviours import Behaviour
from loadtest.truth.server import running

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def wait_for(condition: Callable[[], Any], limit_s: float = 120.0) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come")


def page(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return None


@contextlib.contextmanager
def web_ui(folder: Path) -> Iterator[str]:
    """`python -m loadtest.ui` on a free port; its URL. Ctrl-C at the end must be a good one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    stage = [sys.executable, "-m", "loadtest.ui", f"--port={port}", f"--results={folder / 'r'}", f"--artifacts={folder}"]
    process = subprocess.Popen(stage, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=processes.environment())
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: page(url))
        yield url
    finally:
        process.terminate()
        stdout, stderr = process.communicate(timeout=60)
    assert json.loads(stdout) == {"status": "ok", "url": url, "ended": "by the user"}, stderr


def choices(folder: Path, port: int) -> dict[str, str]:
    (folder / "body").write_text("7")
    found = {"url": f"http://127.0.0.1:{port}/", "body": str(folder / "body"), "scenarios": "server", "rate": "200"}
    return {f"faceoff_{name}": value for name, value in {**found, "duration": "1", "rest": "0", "run": "form"}.items()}


def check(folder: Path, url: str) -> None:
    summary = folder / "r" / "form" / "summary.json"
    wait_for(summary.exists)
    [m] = json.loads(summary.read_text())["measurements"]
    assert (m["num_requests"], m["load"]) == (200, {"kind": "rate", "value": 200.0})
    wait_for(lambda: shown(url) == 200, limit_s=30.0)  # Locust shows the same rows


def shown(url: str) -> int:
    """How many requests Locust's own statistics count; its page asks for them every two seconds and caches the answer."""
    stats = json.loads(page(f"{url}/stats/requests") or "{}")
    return max((int(entry["num_requests"]) for entry in stats.get("stats", [])), default=0)


def test_a_run_started_by_the_form_that_the_page_sends(tmp_path: Path) -> None:
    with running(Behaviour(kind="fixed", service_ms=1.0), cores.split()) as server, web_ui(tmp_path) as url:
        assert "faceoff_scenarios" in (page(url) or "")
        form = {"user_count": "1", "spawn_rate": "1", **choices(tmp_path, server.http)}
        request = urllib.request.Request(f"{url}/swarm", data=urllib.parse.urlencode(form).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.loads(answer.read())["success"]
        check(tmp_path, url)


@pytest.mark.skipif(BROWSER is None, reason="no browser is installed (apt-get install chromium)")
def test_a_run_started_in_a_browser(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    with (
        running(Behaviour(kind="fixed", service_ms=1.0), cores.split()) as server,
        web_ui(tmp_path) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page()
        view.goto(url)
        view.get_by_text("Custom parameters").click()
        for name, value in choices(tmp_path, server.http).items():
            first, _, rest = name.partition("_")
            view.locator(f"[name={first}{rest.capitalize()}]").fill(value)  # the page's own spelling
        view.get_by_role("button", name="Start").click()
        check(tmp_path, url)
        view.wait_for_selector("text=custom-rest-bytes-server-1")
        browser.close()
