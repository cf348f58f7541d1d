"""What the bytes of a request mean where libevent and llhttp differ, or llhttp says nothing: target, bad heads, gzip."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

MAX_BODY_BYTES = 1 << 30


def target(url: bytes) -> bytes:
    """The request target without scheme and host; the query is part of the path."""
    front, separator, rest = url.partition(b"://")
    if separator and b"/" not in front:
        slash = rest.find(b"/")
        return rest[slash:] if slash >= 0 else b"/"
    return url.partition(b"#")[0]


def head(method: str, url: bytes, version: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a request up to its body, as they could have come."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return method.encode() + b" " + url + f" HTTP/{version}\r\n{lines}\r\n".encode("latin-1")


def status_of_bad_head(start: bytes) -> int:
    """The page for what the parser refused: a target that is no path is 404, all else 400."""
    words = start.partition(b"\r\n")[0].split(b" ")
    if len(words) == 3 and words[2].startswith(b"HTTP/1.") and not words[1].startswith(b"/"):
        return 404
    return 400


def gunzip(body: bytes) -> bytes:
    """The inflated body; empty where it is not gzip or inflates beyond the limit."""
    try:
        inflater = zlib.decompressobj(wbits=31)
        plain = inflater.decompress(body, MAX_BODY_BYTES)
        return plain if inflater.eof else b""
    except zlib.error:
        return b""
