from __future__ import annotations

import subprocess
import sys

import pytest

from faceoff.processes import environment
from serving.embedded import flags

BASE = "--model_base_path=/models/cnn"


def test_defaults_are_tensorflow_servings() -> None:
    parsed = flags.parse([BASE])
    assert (parsed.port, parsed.rest_api_port, parsed.model_name) == (8500, 0, "default")
    assert (parsed.rest_api_timeout_in_ms, parsed.file_system_poll_wait_seconds, parsed.max_num_load_retries) == (30_000, 1, 5)
    assert parsed.bind == "127.0.0.1"


@pytest.mark.parametrize(
    ("argument", "value"), [("", True), ("=true", True), ("=True", True), ("=1", True), ("=false", False), ("=0", False)]
)
def test_booleans_in_every_spelling(argument: str, value: bool) -> None:
    assert flags.parse([BASE, f"--enable_batching{argument}"]).enable_batching is value


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--nope=1", "unknown argument: --nope=1"),
        ("--port", "--port=VALUE"),
        ("--port=abc", "expected int"),
        ("--port=70000", "0 to 65535"),
        ("-port=1", "unknown argument"),
        ("stray", "unknown argument: stray"),
        ("--por=8500", "unknown argument"),
        ("--enable_batching=maybe", "expected true or false"),
        ("--platform_config_file=/tmp/platform", "does not support"),
        ("--processes=0", "expected at least 1"),
        ("--engine=torch", "expected tensorflow or onnxruntime"),
        ("--grpc_transport=http3", "expected core or aio"),
        ("--batching_parameters_file=/tmp/b", "--enable_batching"),
        ("--rest_api_port=8500", "different ports"),
    ],
)
def test_what_cannot_be_started_is_told_in_one_line(argument: str, told: str) -> None:
    with pytest.raises(flags.FlagError, match=told) as error:
        flags.parse([BASE, argument])
    assert "\n" not in str(error.value)


def test_a_model_is_needed_and_its_path_is_absolute() -> None:
    with pytest.raises(flags.FlagError, match="model_config_file"):
        flags.parse([])
    with pytest.raises(flags.FlagError, match=r"got base_path\(\)=models"):
        flags.parse(["--model_base_path=models"])


def test_a_refused_flag_at_its_default_is_accepted() -> None:
    assert flags.parse([BASE, "--prefer_tflite_model=false"]).prefer_tflite_model is False


def test_flags_without_effect_are_named() -> None:
    assert flags.accepted_without_effect(flags.parse([BASE, "--grpc_max_threads=8"])) == ["grpc_max_threads"]


def test_session_parallelism_is_the_default_of_both_pools() -> None:
    parsed = flags.parse([BASE, "--tensorflow_session_parallelism=3", "--tensorflow_inter_op_parallelism=1"])
    assert (parsed.intra_op_threads, parsed.inter_op_threads) == (3, 1)


@pytest.mark.parametrize(
    ("module", "words"), [("serving.embedded.__main__", "not TensorFlow Serving"), ("serving.embedded.bench", "padding")]
)
def test_help_needs_nothing_large(module: str, words: str) -> None:
    code = (
        f"import sys, {module} as m\ntry:\n    m.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('tensorflow', 'numpy', 'asyncio', 'google.protobuf', 'grpc') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False)
    assert words in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
