import platform
import sys

from faceoff import platform_check


def test_this_machine_fits():
    assert platform_check.problem() is None


def test_another_machine_is_named_in_one_line(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    text = platform_check.problem()
    assert "Darwin" in text
    assert "expected CPython 3.11 on Linux x86_64" in text
    assert "\n" not in text


def test_another_python_is_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    assert "expected CPython 3.11" in platform_check.problem()
