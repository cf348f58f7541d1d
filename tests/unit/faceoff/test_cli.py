import argparse
import json
import signal
import subprocess
import sys

import pytest

from faceoff import cli
from faceoff.errors import CorruptError, FaceoffError, InvalidError, StageError, UsageError
from faceoff.store import write_atomic
from tests.conftest import ROOT


def outcome(capsys, command, argv=()):
    parser = cli.Parser(prog="prog")
    parser.add_argument("--n", type=cli.positive_int, default=1)
    code = cli.run(parser, command, list(argv))
    captured = capsys.readouterr()
    return code, json.loads(captured.out.strip().splitlines()[-1]), captured.err


def test_success_is_one_json_line_with_status_ok(capsys):
    code, result, _ = outcome(capsys, lambda args: {"n": args.n}, ["--n", "3"])
    assert (code, result) == (0, {"status": "ok", "n": 3})


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (FaceoffError("broke"), 1, "fault"),
        (UsageError("mistake"), 2, "usage"),
        (CorruptError("bytes"), 2, "usage"),
        (InvalidError("noisy"), 3, "invalid"),
        (StageError("stage", exit_code=2), 2, "usage"),
        (StageError("stage", exit_code=139), 1, "fault"),
        (RuntimeError("bug"), 1, "fault"),
        (KeyboardInterrupt(), 1, "fault"),
    ],
)
def test_every_failure_has_its_exit_code_and_its_json_line(capsys, error, code, status):
    def fail(args):
        raise error

    found, result, _ = outcome(capsys, fail)
    assert (found, result["status"]) == (code, status)
    assert result["error"]


def test_details_of_an_error_join_the_json_line(capsys):
    def fail(args):
        raise InvalidError("noisy", {"report": "r.html"})

    assert outcome(capsys, fail)[1]["report"] == "r.html"


@pytest.mark.parametrize("argv", [["--n", "0"], ["--n", "x"], ["--unknown"]])
def test_a_wrong_option_is_the_users_mistake_in_one_line(capsys, argv):
    code, result, err = outcome(capsys, lambda args: {}, argv)
    assert (code, result["status"]) == (2, "usage")
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_kill_and_a_closed_terminal_clean_up(number):
    code = (
        "import os, sys\n"
        "from faceoff import cli\n"
        "def command(args):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        sys.exit('the signal changed nothing')\n"
        "    finally:\n"
        "        print('cleaned up')\n"
        "sys.exit(cli.run(cli.Parser(prog='prog'), command, []))\n"
    )
    # with the signal's default behaviour, whatever the runner of the tests has set
    done = subprocess.run(
        [sys.executable, "-c", f"import signal; signal.signal({int(number)}, signal.SIG_DFL)\n{code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    cleaned, line = done.stdout.splitlines()
    assert (done.returncode, cleaned, json.loads(line)["error"]) == (1, "cleaned up", "interrupted")


def test_comma_list_drops_empty_parts():
    assert cli.comma_list(" rest, grpc,,") == ["rest", "grpc"]


def with_roots(capsys, command, *argv):
    parser = cli.Parser(prog="prog")
    parser.add_store()
    code = cli.run(parser, command, argv)
    captured = capsys.readouterr()
    return code, json.loads(captured.out.strip().splitlines()[-1]), captured.err


def write(args):
    write_atomic(cli.store(args).endpoints, "[]")
    return {}


@pytest.mark.parametrize("root", ["pyproject.toml", "/proc/nowhere", "/proc/no/where"])
def test_a_root_that_cannot_be_made_is_the_users_mistake_in_one_line(capsys, monkeypatch, root):
    monkeypatch.chdir(ROOT)
    code, result, err = with_roots(capsys, write, "--artifacts", root)
    assert (code, result["status"]) == (2, "usage")
    assert result["error"].startswith(f"--artifacts {root}: ")
    assert "(set ARTIFACTS=...)" in result["error"]
    assert len(err.strip().splitlines()) == 1


def test_a_root_that_may_only_be_read_is_read(capsys, tmp_path):
    (tmp_path / "endpoints.json").write_text("[1]")
    tmp_path.chmod(0o555)
    read = lambda args: {"text": cli.store(args).endpoints.read_text()}  # noqa: E731
    assert with_roots(capsys, read, "--artifacts", str(tmp_path), "--results", "/proc/nowhere")[:2] == (
        0,
        {"status": "ok", "text": "[1]"},
    )


@pytest.mark.parametrize("text", ["0", "-1", "65536", "99999999", "x", ""])
def test_a_port_is_1_to_65535(text):
    assert (cli.port("1"), cli.port("65535")) == (1, 65535)
    with pytest.raises(argparse.ArgumentTypeError, match="expected 1 to 65535, got"):
        cli.port(text)


def test_names_are_different_and_known() -> None:
    assert cli.names(" rest, grpc ,", "protocol", "PROTOCOLS", ("grpc", "rest")) == ["rest", "grpc"]
    assert cli.names("a", "model", "MODEL") == ["a"]
    for text in ("", ",", "rest,rest"):
        with pytest.raises(UsageError, match=f"PROTOCOLS={text}: expected one or more different protocols, of grpc, rest, "):
            cli.names(text, "protocol", "PROTOCOLS", ("rest", "grpc"))
        with pytest.raises(UsageError, match=f"MODEL={text}: expected one or more different models, "):
            cli.names(text, "model", "MODEL")
    with pytest.raises(UsageError, match="unknown protocol 'soap'"):
        cli.names("rest,soap", "protocol", "PROTOCOLS", ("rest", "grpc"))
