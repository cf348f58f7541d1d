"""The site over all runs: a real server on loopback, asked as a browser would."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from report import serve
from tests.fakes import records

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path, subprocess.Popen]]:
    results = tmp_path_factory.mktemp("results")
    records.write_run(results, "demo")
    records.write_run(results, "broken")
    (results / "broken" / "summary.json").write_text("{", encoding="utf-8")
    (results / "half.partial").mkdir()
    (results / "half.partial" / "summary.json").write_text("{}", encoding="utf-8")
    (results / "secret.html").write_text("secret", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "report.serve", "--results", str(results)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    line = process.stderr.readline()  # the address is said once it listens
    yield int(line.split("127.0.0.1:")[1].split("/")[0]), results, process
    process.kill()
    process.communicate()


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Host": f"{host}:{port}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), dict(answer.getheaders())


def test_the_list_names_every_run_and_what_is_wrong_with_one(site):
    port, _, _ = site
    status, text, headers = get(port, "/")
    assert status == 200 and headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert 'href="/demo/"' in text and "10 of 10 VALID" in text and "TorchServe and tfserving-embedded" in text
    assert "cannot read" in text and "half.partial" not in text


def test_a_report_is_built_when_asked_for_and_again_when_its_records_change(site):
    port, results, _ = site
    file = results / "demo" / "report.html"
    assert not file.exists()
    status, text, _ = get(port, "/demo/")
    assert status == 200 and "TorchServe against tfserving-embedded" in text
    assert file.read_text(encoding="utf-8") == text
    summary = results / "demo" / "summary.json"
    records.edit(summary, lambda s: s.update(measurements=s["measurements"][:4]))
    later = file.stat().st_mtime + 10
    os.utime(summary, (later, later))
    assert get(port, "/demo/")[1] != text


def test_nothing_else_can_be_asked_for(site):
    port, _, _ = site
    for path in ("/secret.html", "/../pyproject.toml", "/demo/summary.json", "/%2e%2e/", "/half.partial/"):
        status, text, _ = get(port, path)
        assert status == 404 and "secret" not in text.replace("secret.html", "")
    status, text, _ = get(port, "/broken/")
    assert status == 500 and "run again: make loadtest" in text
    assert get(port, "/", host="evil.example")[0] == 403
    hostile = get(port, "/<script>alert(1)</script>")[1]
    assert "<script>alert" not in hostile


def test_ctrl_c_ends_it_with_a_line_of_json(site):
    port, results, process = site
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    line = json.loads(out.splitlines()[-1])
    assert process.returncode == 0
    assert line["status"] == "ok" and line["url"] == f"http://127.0.0.1:{port}/" and set(line["runs"]) == {"demo", "broken"}
    assert results.is_dir()


def test_it_ends_by_itself_and_mistakes_are_told(tmp_path, capsys):
    assert serve.main(["--results", str(tmp_path), "--for-s", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == []
    assert serve.main(["--results", str(tmp_path), "--for-s", "-1"]) == 2
    assert "expected seconds" in json.loads(capsys.readouterr().out)["error"]
    assert serve.main(["--results", str(tmp_path), "--port", "99999999"]) == 2
    assert "expected 1 to 65535, got '99999999'" in json.loads(capsys.readouterr().out)["error"]
