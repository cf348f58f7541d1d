import socket

import pytest

from faceoff.errors import UsageError
from serving.placement import choose_cores, choose_ports

USABLE = {0, 1, 2, 3, 5}


@pytest.mark.parametrize(
    ("text", "found"), [("", (0, 1, 2, 3)), ("0", (0,)), ("0-2", (0, 1, 2)), ("3,0-1", (0, 1, 3)), (" 1 , 2 ", (1, 2))]
)
def test_cores_are_a_list_of_numbers_and_ranges(text, found):
    assert choose_cores(text, share=False, usable=USABLE) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4", r"core 4 is not usable here, expected some of \[0, 1, 2, 3, 5\]"),
        ("0-9", "core 4 is not usable"),
        ("x", "found 'x', expected core numbers"),
        ("2-1", "found '2-1'"),
        ("-1", "found '-1'"),
        (",", "found no core"),
        ("0,5", "core 5 is the load generator's.*SHARE_GENERATOR=1"),
    ],
)
def test_cores_that_cannot_be_had_are_refused(text, words):
    with pytest.raises(UsageError, match=words):
        choose_cores(text, share=False, usable=USABLE)


def test_the_generators_core_is_shared_only_when_that_is_said(capsys):
    assert choose_cores("0,5", share=True, usable=USABLE) == (0, 5)
    assert "core 5 is shared with the load generator" in capsys.readouterr().err
    assert choose_cores("0", share=False, usable={0}) == (0,)


def test_given_ports_are_kept_and_the_others_are_free():
    port = choose_ports({"a": 1}, "free")["a"]
    chosen = choose_ports({"tfserving rest": 8501, "tfserving grpc": 8500}, f"tfserving-rest={port}")
    assert chosen["tfserving rest"] == port
    assert chosen["tfserving grpc"] not in (port, 8500, 0)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("nowhere-rest=9000", "found 'nowhere-rest', expected one of tfserving-rest"),
        ("tfserving-rest=0", "expected a port from 1 to 65535"),
        ("tfserving-rest=x", "expected a port"),
        ("some", "unknown ports 'some'"),
        ("tfserving-rest=8080,tfserving-rest=8081", "found 'tfserving-rest' twice"),
    ],
)
def test_ports_that_make_no_sense_are_refused(mode, words):
    with pytest.raises(UsageError, match=words):
        choose_ports({"tfserving rest": 8501}, mode)


def test_two_servers_that_want_one_port_are_told_so():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(UsageError, match=rf"port {port} is wanted for rest of a and for rest of b.*PORTS=free"):
        choose_ports({"rest of a": port, "rest of b": port}, "standard")
