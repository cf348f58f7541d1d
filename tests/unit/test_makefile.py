"""What a user gives make reaches a program as it is, or is refused by make in the programs' own way."""

import json
import os
import re
import subprocess

import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "Makefile").read_text()


def shell(*args: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run([*args], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_no_variable_stands_in_quotes_that_its_value_could_end():
    recipes = [line for line in TEXT.splitlines() if line.startswith("\t") and not line.startswith("\techo")]
    assert [line for line in recipes if re.search(r"'[^' ]*\$\(", line.replace("$(call quote,", ""))] == []
    named = set(re.findall(r"^([A-Z_]+) +\?=", TEXT, re.M)) - {"SHARE_GENERATOR", "PYTHON"}
    bare = {name for line in recipes for name in re.findall(r"(?<!,)(?<!or )\$\(([A-Z_]+)\)", line)}
    assert bare & named == set()


@pytest.mark.parametrize("value", ["it's", "two words", "a;b", '"', "$$HOME", "`id`", "a,b", "''"])
@pytest.mark.parametrize("variable", ["RUN", "MODEL", "ARTIFACTS"])
def test_a_value_arrives_as_it_is(variable, value):
    made = shell("make", "-n", "train", f"{variable}={value}", "PY=printf '%s|'")
    assert made.returncode == 0, made.stderr
    assert value.replace("$$", "$") in shell("sh", "-c", made.stdout).stdout.split("|")


@pytest.mark.parametrize("target", ["nope", "", "local k8s", "it's", 'a"b\\c'])
def test_an_unknown_target_of_loadtest_is_refused(target):
    done = shell("make", "loadtest", f"TARGET={target}", "PY=false")
    assert done.returncode == 2
    error = f"unknown target '{target}': expected one of compose, k8s, local (set TARGET=...)"
    assert json.loads(done.stdout) == {"status": "usage", "error": error}
    assert done.stderr.startswith(f"make loadtest: usage: {error}\n")


@pytest.mark.parametrize(
    ("target", "module"), [("local", "loadtest.run"), ("compose", "loadtest.run"), ("k8s", "serving.load_job")]
)
def test_a_known_target_of_loadtest_runs_its_program(target, module):
    assert shell("make", "loadtest", f"TARGET={target}", "PY=printf '%s|'").stdout.split("|")[1] == module
