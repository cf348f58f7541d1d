"""loadtest.options."""

import argparse
from pathlib import Path

import pytest

from faceoff import cli
from loadtest import options


def ours(*argv: str) -> options.Options:
    parser = cli.Parser()
    options.add_to(parser)
    parser.add_store()
    return options.from_arguments(parser.parse_args(argv))


def locusts(*argv: str) -> options.Options:
    parser = argparse.ArgumentParser()
    options.add_to(parser, locust=True)
    return options.from_arguments(parser.parse_args(argv), locust=True)


def test_what_the_stage_is_told_reaches_locust_unchanged() -> None:
    for argv in (
        ["--run", "x"],
        ["--model=cnn", "--servers=torchserve", "--scenarios=server", "--rate=12.5", "--connections=3", "--version=2"],
        ["--profile=full", "--seed=9", "--artifacts=/a", "--results=/r", "--protocols=rest, grpc"],
    ):
        told = ours(*argv)
        assert locusts(*told.arguments()) == told


def test_what_the_web_form_leaves_as_text_is_read_like_an_argument() -> None:
    parser = argparse.ArgumentParser()
    options.add_to(parser, locust=True)
    arguments = parser.parse_args(["--run=x"])
    arguments.faceoff_rate, arguments.faceoff_connections, arguments.faceoff_rows = "12.5", " ", ""
    arguments.faceoff_results, arguments.faceoff_seed = "/r", "7"
    found = options.from_arguments(arguments, locust=True)
    assert (found.rate, found.connections, found.rows, found.results, found.seed) == (12.5, None, None, Path("/r"), 7)
    arguments.faceoff_rate = "fast"
    with pytest.raises(cli.UsageError, match="rate 'fast'"):
        options.from_arguments(arguments, locust=True)


def test_out_is_results_and_run() -> None:
    found = ours("--out", "some/where")
    assert (found.results, found.run) == (Path("some"), "where")
    with pytest.raises(cli.UsageError, match="--out and --run"):
        ours("--out", "a", "--run", "b")
    assert ours("--scenario", "server").scenarios == ours("--scenarios", "server").scenarios == "server"


def test_a_run_without_a_name_is_named_by_the_time() -> None:
    assert ours().run.startswith("loadtest-20")
    assert ours("--run=demo").run == "demo"
    assert ours().artifacts == Path("artifacts")


@pytest.mark.parametrize("argv", [["--rate", "fast"], ["--seed", "1.5"], ["--nonsense"]])
def test_nonsense_is_the_users_mistake(argv: list[str]) -> None:
    with pytest.raises(cli.UsageError):
        ours(*argv)
