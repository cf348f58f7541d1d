"""JSON as RapidJSON reads it for TensorFlow Serving: its errors and offsets, its leniencies, its numbers.

`NaN`, `Inf`, `Infinity`, `-Inf`, `-Infinity`, `-NaN` are read; text after the first value, a byte-order mark and invalid UTF-8
are let through; NUL ends the document; of duplicate keys the first one counts. Decimals go through RapidJSON's
"normal precision" arithmetic, which is not always correctly rounded, and denormals are flushed to zero.

This is the ordinary path. `rest_codec` takes a faster one where both are known to agree.
Iterative, so that depth is limited by memory only. Source of the rules: rapidjson/reader.h, rapidjson/error/en.h.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any

from serving.embedded.errors import ServingError, invalid

_BLANK = re.compile(rb"[ \t\r\n]*")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?(?:[eE]([+-]?[0-9]+))?")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = re.compile(rb"[0-9A-Fa-f]{4}")
_ESCAPES = {0x22: b'"', 0x5C: b"\\", 0x2F: b"/", 0x62: b"\b", 0x66: b"\f", 0x6E: b"\n", 0x72: b"\r", 0x74: b"\t"}
_WORDS = {0x6E: (b"null", None), 0x74: (b"true", True), 0x66: (b"false", False)}
_TINY = sys.float_info.min  # the smallest double that is not a denormal
_EXACT_DIGITS, _EXACT_POWER = 15, 22


class JsonObject:
    """A JSON object: its members in order, duplicates included."""

    __slots__ = ("members",)

    def __init__(self, members: list[tuple[str, Any]] | None = None) -> None:
        self.members = [] if members is None else members

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self.members)

    def __getitem__(self, name: str) -> Any:
        for key, value in self.members:
            if key == name:
                return value
        raise KeyError(name)

    def __repr__(self) -> str:
        return f"JsonObject({self.members!r})"


def parse(data: bytes) -> Any:
    """The first JSON value of `data`. Objects are `JsonObject`, strings str with surrogateescape for bytes that are
    not UTF-8, integers int within int64 or uint64, all other numbers float. Raises ServingError `JSON Parse error`.
    """
    if not data:
        raise invalid("JSON Parse error: The document is empty")
    return _Reader(data).read()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def read(self) -> Any:
        for mark in b"\xef\xbb\xbf":  # the byte-order mark, as far as it is there
            if self.peek() == mark:
                self.at += 1
        self.blank()
        if self.peek() == 0:
            raise self.error("The document is empty.")
        stack: list[tuple[Any, str]] = []  # open containers, and the name the next value gets in an object
        container: Any = None
        name = ""
        while True:
            value, opened = self.value()
            if opened:
                stack.append((container, name))
                container = value
                if isinstance(value, list) or self.peek() == 0x7D:  # an object that is not empty needs a name first
                    empty = self.peek() == (0x5D if isinstance(value, list) else 0x7D)
                else:
                    name, empty = self.name(), False
                if not empty:
                    continue
                self.at += 1
                value = container
                container, name = stack.pop()
            while True:  # put the finished value where it belongs; close what ends
                if container is None:
                    return value
                self.blank()
                nxt = self.peek()
                if isinstance(container, list):
                    container.append(value)
                    if nxt not in (0x2C, 0x5D):
                        raise self.error("Missing a comma or ']' after an array element.")
                    closing = nxt == 0x5D
                else:
                    container.members.append((name, value))
                    if nxt not in (0x2C, 0x7D):
                        raise self.error("Missing a comma or '}' after an object member.")
                    closing = nxt == 0x7D
                self.at += 1
                if not closing:
                    self.blank()
                    if not isinstance(container, list):
                        name = self.name()
                    break
                value = container
                container, name = stack.pop()

    def value(self) -> tuple[Any, bool]:
        """A value that is complete, or a container that has just been opened, with blanks behind its bracket skipped."""
        first = self.peek()
        if first in (0x5B, 0x7B):
            self.at += 1
            self.blank()
            return ([] if first == 0x5B else JsonObject()), True
        if first == 0x22:
            return self.string(), False
        word = _WORDS.get(first)
        if word is not None:
            self.word(word[0])
            return word[1], False
        return self.number(), False

    def name(self) -> str:
        if self.peek() != 0x22:
            raise self.error("Missing a name for object member.")
        name = self.string()
        self.blank()
        if self.peek() != 0x3A:
            raise self.error("Missing a colon after a name of object member.")
        self.at += 1
        self.blank()
        return name

    def word(self, word: bytes) -> None:
        for byte in word:
            if self.peek() != byte:
                raise self.error("Invalid value.")
            self.at += 1

    def string(self) -> str:
        self.at += 1
        parts: list[bytes] = []
        while True:
            match = _PLAIN.match(self.data, self.at)
            assert match is not None
            parts.append(match.group())
            self.at = match.end()
            byte = self.peek()
            if byte == 0x22:
                self.at += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if byte == 0x5C:
                parts.append(self.escape())
            elif byte == 0:
                raise self.error("Missing a closing quotation mark in string.")
            else:
                raise self.error("Invalid encoding in string.")

    def escape(self) -> bytes:
        start = self.at
        self.at += 1
        byte = self.peek()
        if byte in _ESCAPES:
            self.at += 1
            return _ESCAPES[byte]
        if byte != 0x75:
            raise self.error("Invalid escape character in string.", start)
        code = self.hex4(start)
        if 0xD800 <= code <= 0xDFFF:
            if code > 0xDBFF or self.data[self.at : self.at + 2] != b"\\u":
                raise self.error("The surrogate pair in string is invalid.", start)
            self.at += 1
            low = self.hex4(start)
            if not 0xDC00 <= low <= 0xDFFF:
                raise self.error("The surrogate pair in string is invalid.", start)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return chr(code).encode()

    def hex4(self, start: int) -> int:
        """Four hex digits behind the `u` at `self.at`."""
        match = _HEX.match(self.data, self.at + 1)
        if match is None:
            raise self.error("Incorrect hex digit after \\u escape in string.", start)
        self.at = match.end()
        return int(match.group(), 16)

    def number(self) -> int | float:
        start = self.at
        match = _NUMBER.match(self.data, start)
        if match is None:
            return self.not_finite()
        self.at = match.end()
        nxt = self.peek()
        if match.group(2) is None:
            if nxt == 0x2E and match.group(1) is None:
                self.at += 1
                raise self.error("Miss fraction part in number.")
            if nxt in (0x65, 0x45):
                self.at += 1
                if self.peek() in (0x2B, 0x2D):
                    self.at += 1
                raise self.error("Miss exponent in number.")
            if match.group(1) is None:
                whole = int(match.group()) if match.end() - start < 25 else 2**64
                if -(2**63) <= whole < 2**64:
                    return whole
        number = decimal(match.group())
        if math.isinf(number):
            raise self.error("Number too big to be stored in double.", start)
        return number

    def not_finite(self) -> float:
        sign = 1.0
        if self.peek() == 0x2D:
            sign = -1.0
            self.at += 1
        if self.peek() == 0x4E:
            self.word(b"NaN")
            return math.nan
        if self.peek() == 0x49:
            self.word(b"Inf")
            if self.peek() == 0x69:
                self.word(b"inity")
            return sign * math.inf
        raise self.error("Invalid value.")

    def peek(self) -> int:
        return self.data[self.at] if self.at < len(self.data) else 0

    def blank(self) -> None:
        match = _BLANK.match(self.data, self.at)
        assert match is not None
        self.at = match.end()

    def error(self, reason: str, at: int | None = None) -> ServingError:
        return invalid(f"JSON Parse error: {reason} at offset: {self.at if at is None else at}")


def decimal(token: bytes) -> float:
    """The double RapidJSON makes of a valid JSON number; inf where it overflows, denormals flushed to zero."""
    negative = token[:1] == b"-"
    mantissa, _, exponent = token.lstrip(b"-").lower().partition(b"e")
    whole, _, fraction = mantissa.partition(b".")
    size = exponent.lstrip(b"+-0")
    power = int(size or b"0") if len(size) < 10 else 10**9
    if exponent[:1] == b"-":
        power = -power
    if len(whole) + len(fraction) <= _EXACT_DIGITS and abs(power - len(fraction)) <= _EXACT_POWER:
        value = float(token)  # both are exact within these limits
        return math.copysign(0.0, value) if abs(value) < _TINY else value
    significand, shift = _significand(whole, fraction, limit=2**63 if negative else 2**64 - 1)
    if power > 308 - shift:
        return math.inf
    power += shift
    value = _scaled(_scaled(significand, -308), power + 308) if power < -308 else _scaled(significand, power)
    if value < _TINY:
        value = 0.0
    return -value if negative else value


def _scaled(value: float, power: int) -> float:
    if power < -308:
        return 0.0
    return value * float(f"1e{power}") if power >= 0 else value / float(f"1e{-power}")


def _significand(whole: bytes, fraction: bytes, limit: int) -> tuple[float, int]:
    """Reader::ParseNumber's accumulation: integers while they fit, then doubles; (value, power of ten)."""
    digits = 0  # "significandDigit": the first digit is not counted
    integer = whole[0] - 48
    at = 1
    while at < len(whole) and integer * 10 + (whole[at] - 48) <= limit:
        integer = integer * 10 + (whole[at] - 48)
        at, digits = at + 1, digits + 1
    double = None
    if at < len(whole):
        double = float(integer)
        for digit in whole[at:]:
            double = double * 10 + (digit - 48)
    shift = 0
    for digit in fraction:
        if double is None and integer > 2**53 - 1:
            double = float(integer)
        if double is None:
            integer = integer * 10 + (digit - 48)
            digits += integer != 0
        elif digits >= 17:
            break
        else:
            double = double * 10 + (digit - 48)
            digits += double > 0
        shift -= 1
    return float(integer) if double is None else double, shift
