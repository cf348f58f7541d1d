"""Modules that ours start as processes, run by hand: they say what they are, and never die of it."""

import importlib
import subprocess
import sys

import pytest

from faceoff import helper, processes

HELPERS = {
    "faceoff.platform_check": 0,
    "loadtest.engine": 0,
    "loadtest.truth.loadgen": 1,
    "loadtest.truth.server": 2,
    "serving.rotate": 1,
}


def by_hand(module: str, *given: str, **more) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *given],
        env=processes.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **({"stdin": subprocess.DEVNULL} | more),
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("module", HELPERS)
def test_help_says_what_it_is(module):
    code, out, err = by_hand(module, "--help")
    assert (code, err) == (0, "")
    assert out == importlib.import_module(module).__doc__.strip() + "\n"


@pytest.mark.parametrize("module", HELPERS)
def test_an_unknown_option_is_refused_in_one_line(module):
    code, out, err = by_hand(module, "--nonsense")
    assert (code, out) == (2, "")
    assert err.startswith(f"{module}: usage: found '--nonsense', expected ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("module", [name for name, needed in HELPERS.items() if needed])
def test_missing_operands_are_named(module):
    code, _, err = by_hand(module)
    assert (code, err.count("\n")) == (2, 1)
    assert "found nothing, expected " in err


@pytest.mark.parametrize("given", [("loadtest.engine",), ("loadtest.truth.server", "{}", "[0]")])
def test_stdin_that_is_no_pipe_is_refused_and_aborts_nothing(given):
    with open(__file__) as file:  # noqa: PTH123
        for stdin in (subprocess.DEVNULL, file):
            code, out, err = by_hand(*given, stdin=stdin)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert "expected a pipe on stdin" in err


def test_an_engine_whose_pipe_ends_ends():
    assert by_hand("loadtest.engine", stdin=None, input="") == (0, "", "")


@pytest.mark.parametrize(
    ("given", "fits"),
    [([], False), (["a"], True), (["a", "b"], True), (["a", "b", "c"], False), (["a", "-b"], False)],
)
def test_operands_in_brackets_may_be_left_out(given, fits):
    if fits:
        helper.check("m", "doc", given, "FILE", "[FOLDER]")
        return
    with pytest.raises(SystemExit) as ended:
        helper.check("m", "doc", given, "FILE", "[FOLDER]")
    assert ended.value.code == 2


def test_it_costs_the_processes_that_start_often_nothing():
    code = "import os, sys; before = set(sys.modules); import faceoff.helper; print(sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env=processes.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['faceoff', 'faceoff.helper']"
