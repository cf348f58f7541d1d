"""loadtest.anywhere and the options that go with it. Nothing listens."""

from pathlib import Path
from typing import Any

import pytest

from faceoff.errors import UsageError
from loadtest import plan
from loadtest.options import Options


@pytest.fixture
def body(tmp_path: Path) -> str:
    (tmp_path / "body.json").write_text("{}")
    return str(tmp_path / "body.json")


def make(tmp_path: Path, **choices: Any) -> plan.Plan:
    return plan.make(Options(run="x", artifacts=tmp_path / "a", results=tmp_path / "r", **choices))


def test_an_http_endpoint(tmp_path: Path, body: str) -> None:
    made = make(tmp_path, url="http://localhost:81/a?b=c", body=body, scenarios="server", rate=50.0)
    [target] = made.targets
    assert (target.name, target.host, target.port, target.path) == ("custom-rest-bytes", "127.0.0.1", 81, "/a?b=c")
    assert (target.content_type, target.pool().payloads, target.problem) == ("application/json", (b"{}",), None)
    assert made.scenarios == ("server",)


def test_a_grpc_method_and_a_folder_of_bodies(tmp_path: Path) -> None:
    for folder, text in (("bodies", "ask"), ("answers", "answer")):
        (tmp_path / folder).mkdir()
        for name in "ab":
            (tmp_path / folder / name).write_text(f"{text} {name}")
    choices = {"grpc": "127.0.0.1:7", "method": "/p.S/M", "body": str(tmp_path / "bodies"), "expect": str(tmp_path / "answers")}
    [target] = make(tmp_path, **choices).targets
    assert (target.protocol, target.path, target.pool().payloads) == ("grpc", "/p.S/M", (b"ask a", b"ask b"))
    assert target.problem is not None
    assert target.problem(1, b"answer b") is None
    assert "body 1" in (target.problem(1, b"answer a") or "")
    assert make(tmp_path, **choices).scenarios == ("closed", "server")


def test_json_answers_may_differ_in_form_and_by_the_tolerance(tmp_path: Path, body: str) -> None:
    (tmp_path / "expect").write_text('{"a": [1.0, 2], "b": "x", "c": null}')
    choices = {"url": "http://127.0.0.1:1/", "body": body, "expect": str(tmp_path / "expect")}
    exact = make(tmp_path, **choices).targets[0].problem
    close = make(tmp_path, tolerance=0.01, **choices).targets[0].problem
    assert exact is not None and close is not None
    assert exact(0, b'{"b":"x","a":[1,2.0],"c":null}') is None
    other = b'{"a": [1.005, 2], "b": "x", "c": null}'
    assert exact(0, other) is not None
    assert close(0, other) is None
    for wrong in (b'{"a": [1, 2, 3], "b": "x", "c": null}', b'{"a": [true, 2], "b": "x", "c": null}', b"no", b"[]"):
        assert close(0, wrong) is not None


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"url": "http://example.org/"}, "load is sent nowhere else"),
        ({"url": "http://10.0.0.1:80/"}, "load is sent nowhere else"),
        ({"url": "https://127.0.0.1:1/"}, "expected http://"),
        ({"url": "http://127.0.0.1:1/", "grpc": "127.0.0.1:2"}, "expected one of them"),
        ({"url": "http://127.0.0.1:1/", "body": ""}, "--url without --body"),
        ({"url": "http://127.0.0.1:1/", "body": "/nowhere"}, "--body /nowhere: No such file"),
        ({"url": "http://127.0.0.1:1/", "servers": "torchserve"}, "--servers is for deployed endpoints"),
        ({"url": "http://127.0.0.1:1/", "content_type": "a\r\nX: y"}, "expected visible ASCII"),
        ({"grpc": "127.0.0.1:1", "method": "S.M"}, "expected the full name"),
        ({"grpc": "192.168.0.1:1", "method": "/S/M"}, "load is sent nowhere else"),
        ({}, "expected --url or --grpc too"),
        ({"url": "http://127.0.0.1:1/", "scenarios": "soak"}, "scenario soak without --duration"),
        ({"url": "http://127.0.0.1:1/", "scenarios": "trace"}, "expected both"),
        ({"url": "http://127.0.0.1:1/", "scenarios": "sweep", "rates": "100,x"}, "expected a comma list of numbers"),
        ({"url": "http://127.0.0.1:1/", "scenarios": "sweep", "rates": "0"}, "expected numbers above 0"),
        ({"url": "http://127.0.0.1:1/", "rate": float("inf")}, "rate inf"),
        ({"url": "http://127.0.0.1:1/", "duration": float("nan")}, "duration nan"),
        ({"url": "http://127.0.0.1:1/", "percentile": 100.0}, "percentile 100"),
        ({"url": "http://127.0.0.1:99999/x"}, "Port out of range"),
        ({"url": "http://[::1/x"}, "Invalid IPv6 URL"),
        ({"url": "http://127.0.0.1:1/", "method": "/S/M"}, "--method says nothing to an endpoint given by --url"),
        ({"url": "http://127.0.0.1:1/", "version": 2}, "--version is for deployed endpoints"),
        ({"grpc": "127.0.0.1:1", "method": "/S/M", "content_type": "x"}, "--content-type says nothing"),
        ({"body": "", "content_type": "text/plain"}, "--content-type is for an endpoint of your own"),
    ],
)
def test_mistakes(tmp_path: Path, body: str, choices: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        make(tmp_path, **{"body": body, **choices})
    assert words in str(error.value)


@pytest.mark.parametrize(("text", "words"), [("1\n0\n", "no earlier"), ("1\n", "2 to"), ("a\n", "expected one moment")])
def test_a_bad_trace(tmp_path: Path, body: str, text: str, words: str) -> None:
    (tmp_path / "trace").write_text(text)
    with pytest.raises(UsageError, match=words):
        make(tmp_path, url="http://127.0.0.1:1/", body=body, scenarios="trace", trace=str(tmp_path / "trace"))


def test_a_trace_too_short_for_its_engines(tmp_path: Path, body: str) -> None:
    (tmp_path / "trace").write_text("0\n" * 30)
    choices = {"url": "http://127.0.0.1:1/", "body": body, "scenarios": "trace", "trace": str(tmp_path / "trace")}
    assert make(tmp_path, **choices).trace_ns is not None
    with pytest.raises(UsageError, match="30 requests for 2 engines"):
        make(tmp_path, engines=2, **choices)


def test_a_trace_is_scaled(tmp_path: Path, body: str) -> None:
    (tmp_path / "trace").write_text("10.0\n10.5\n12.0\n")
    choices = {"body": body, "scenarios": "trace", "trace": str(tmp_path / "trace"), "time_scale": 0.5}
    made = make(tmp_path, url="http://127.0.0.1:1/", **choices)
    assert made.trace_ns is not None and (made.trace_ns / 1e9).tolist() == [0.0, 0.25, 1.0]
