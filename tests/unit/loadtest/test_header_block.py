"""loadtest.header_block. Examples with C.n are of RFC 7541, appendix C."""

import pytest

from loadtest import header_block
from loadtest.header_block import HeaderBlockError, huffman, statuses


def field(name: str, value: str, *, coded: bool = False, first: int = 0x00) -> bytes:
    parts = [huffman(text) if coded else text.encode() for text in (name, value)]
    return bytes([first]) + b"".join(bytes([len(part) | (0x80 if coded else 0)]) + part for part in parts)


def test_huffman_of_the_standard() -> None:
    assert huffman("302") == bytes.fromhex("6402")  # C.6.1
    assert huffman("307") == bytes.fromhex("640eff")  # C.6.2


def test_status_of_the_static_table() -> None:
    assert statuses(b"\x88") == (200, None)
    assert statuses(b"\x8d") == (404, None)


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("first", [0x00, 0x10, 0x40])
@pytest.mark.parametrize("status", [0, 3, 14])
def test_grpc_status_however_it_is_written(coded: bool, first: int, status: int) -> None:
    block = b"\x88" + field("x-other", "a") + field("grpc-status", str(status), coded=coded, first=first)
    assert statuses(block) == (200, status)


def test_status_written_as_a_literal() -> None:
    assert statuses(bytes.fromhex("4803333032")) == (302, None)  # C.5.1, :status 302, indexed name
    assert statuses(bytes.fromhex("48826402")) == (302, None)  # C.6.1


def test_a_table_size_update_is_skipped() -> None:
    assert statuses(b"\x20" + b"\x3f\xe1\x1f" + b"\x88") == (200, None)


def test_a_long_value_is_skipped() -> None:
    long = "m" * 300
    block = b"\x00\x0cgrpc-message" + b"\x7f\xad\x01" + long.encode() + field("grpc-status", "5")
    assert statuses(block) == (None, 5)


@pytest.mark.parametrize("block", [b"\xbe", b"\x7e\x01a", b"\x80"])
def test_a_dynamic_table_is_refused(block: bytes) -> None:
    with pytest.raises(HeaderBlockError, match="dynamic table"):
        statuses(block)


@pytest.mark.parametrize("block", [b"\x00", b"\x00\x05ab", b"\x00\x01a", b"\x7f\x80"])
def test_a_cut_block_is_refused(block: bytes) -> None:
    with pytest.raises(HeaderBlockError):
        statuses(block)


def test_literal() -> None:
    assert header_block.literal(4, "/sample/path") == bytes.fromhex("040c") + b"/sample/path"  # C.2.2
    assert header_block.literal(31, "a") == b"\x0f\x10\x01a"
    assert header_block.literal(4, "a" * 200)[:3] == b"\x04\x7f\x49"
