"""loadtest.ui: what it refuses before Locust is started."""

import json
import subprocess

import pytest

from loadtest import ui


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "0"], "expected 1 to 65535, got '0'"),
        (["--port", "99999999"], "expected 1 to 65535, got '99999999'"),
        (["--results", __file__], "is no folder, expected"),
    ],
)
def test_a_mistake_starts_nothing(capsys, monkeypatch, options, words):
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **more: pytest.fail("Locust was started"))
    assert ui.main(options) == 2
    assert words in json.loads(capsys.readouterr().out)["error"]
