"""The two statuses in an HTTP/2 header block: `:status` and `grpc-status`. Nothing else in it is read.

The engine tells the server that it keeps no dynamic table (SETTINGS_HEADER_TABLE_SIZE 0), so a block means the
same whenever it comes (RFC 7541, section 4.2), and one that was read before is a dictionary look-up. Names
and values may be Huffman-coded; only the few symbols of `grpc-status` and of numbers need be known for that.
"""

from __future__ import annotations

from functools import lru_cache

_STATIC_STATUS = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}  # RFC 7541, appendix A
_STATIC_SIZE = 61
# RFC 7541, appendix B is canonical: codes of one length count upwards in the order of their symbols.
_FIVE_BITS = "012aceiost"
_SIX_BITS = " %-./3456789=A_bdfghlmnpru"


class HeaderBlockError(ValueError):
    """A block that refers to a dynamic table, or that ends too early."""


def huffman(text: str) -> bytes:
    """`text` in HPACK's Huffman code; KeyError for a symbol outside the few that are known here."""
    codes = {symbol: (index, 5) for index, symbol in enumerate(_FIVE_BITS)}
    first = len(_FIVE_BITS) << 1
    codes |= {symbol: (first + index, 6) for index, symbol in enumerate(_SIX_BITS)}
    bits = "".join(f"{codes[symbol][0]:0{codes[symbol][1]}b}" for symbol in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


_GRPC_STATUS = {(False, b"grpc-status"), (True, huffman("grpc-status"))}
_NUMBERS = {(False, str(n).encode()): n for n in range(600)} | {(True, huffman(str(n))): n for n in range(600)}


@lru_cache(maxsize=256)
def statuses(block: bytes) -> tuple[int | None, int | None]:
    """`(:status, grpc-status)` of a header block, None for one that is not there. Raises HeaderBlockError."""
    http: int | None = None
    grpc: int | None = None
    at = 0
    try:
        while at < len(block):
            first = block[at]
            if first & 0x80:  # indexed field
                index, at = _integer(block, at, 7)
                http = _STATIC_STATUS.get(_static(index), http)
                continue
            if first & 0xE0 == 0x20:  # dynamic table size update
                _, at = _integer(block, at, 5)
                continue
            index, at = _integer(block, at, 6 if first & 0x40 else 4)
            name = None
            if index == 0:
                name, at = _string(block, at)
            value, at = _string(block, at)
            if _static(index, lowest=0) in _STATIC_STATUS:
                http = _NUMBERS.get(value, 0)
            elif name in _GRPC_STATUS:
                grpc = _NUMBERS.get(value, 2)  # a code that is no number is UNKNOWN
    except IndexError as error:
        raise HeaderBlockError("the header block ends inside a field") from error
    return http, grpc


def literal(name_index: int, value: str) -> bytes:
    """A field with a name of the static table and a plain value, not indexed."""
    coded = value.encode("ascii")
    return _encoded_integer(name_index, 4, 0x00) + _encoded_integer(len(coded), 7, 0x00) + coded


def _static(index: int, lowest: int = 1) -> int:
    if not lowest <= index <= _STATIC_SIZE:
        raise HeaderBlockError(f"field {index} of a dynamic table, which the client said it does not keep")
    return index


def _integer(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    limit = (1 << prefix_bits) - 1
    value = block[at] & limit
    at += 1
    if value < limit:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def _encoded_integer(value: int, prefix_bits: int, first: int) -> bytes:
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([first | value])
    coded = bytearray([first | limit])
    value -= limit
    while value >= 0x80:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)


def _string(block: bytes, at: int) -> tuple[tuple[bool, bytes], int]:
    """Whether it is Huffman-coded, and its bytes as they are."""
    coded = bool(block[at] & 0x80)
    length, at = _integer(block, at, 7)
    if at + length > len(block):
        raise IndexError
    return (coded, block[at : at + length]), at + length
