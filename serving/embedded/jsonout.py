"""JSON as TensorFlow Serving writes it: RapidJSON's PrettyWriter, and its own formatting of decimals.

Rules (json_tensor.cc, rapidjson/prettywriter.h; recorded in tests/contract): 4 spaces; "single line" arrays put `, `
between elements and no line breaks around them; floats are the shortest of %.6g and %.9g that reads back, doubles
of %.15g and %.17g, with `.0` where neither `.` nor `e` is there; bare NaN, Infinity and -Infinity.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from serving.embedded.rapidjson import JsonObject

_TINY32, _TINY64 = float(np.finfo("f4").tiny), float(np.finfo("f8").tiny)
MAX_VALUE_TEXT = 1 << 22  # characters of a value in an error message: what is deep is indented to the square of its size
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def float32(values: Sequence[float]) -> list[str]:
    """Texts of float32 values given as Python floats."""
    texts = [f"{value:.6g}" for value in values]
    if not texts:
        return texts
    with np.errstate(over="ignore"):
        back = np.array(texts, "f8").astype("f4")
    same = (back == np.array(values, "f4")).tolist()
    return [_finish(text if ok else f"{value:.9g}", value, _TINY32) for text, ok, value in zip(texts, same, values, strict=True)]


def float64(values: Sequence[float]) -> list[str]:
    """Texts of float64 values."""
    texts = [f"{value:.15g}" for value in values]
    return [
        _finish(text if float(text) == value else f"{value:.17g}", value, _TINY64)
        for text, value in zip(texts, values, strict=True)
    ]


def _finish(text: str, value: float, tiny: float) -> str:
    if -tiny < value < tiny:  # zero, or a denormal, which the real server's threads flush
        return "-0.0" if math.copysign(1.0, value) < 0 else "0.0"
    if "." in text or "e" in text:
        return text
    if text[-1] in "nf":  # nan, inf, -inf
        return "NaN" if text[-1] == "n" else ("-Infinity" if value < 0 else "Infinity")
    return text + ".0"


def string(text: str) -> str:
    """A JSON string: RapidJSON escapes quote, backslash and control characters, nothing else."""
    return '"' + _ESCAPED.sub(lambda m: _SHORT.get(m.group()) or f"\\u{ord(m.group()):04X}", text) + '"'


def encoded(text: str) -> bytes:
    """Text to bytes; what came in as invalid UTF-8 goes out as it came."""
    return text.encode("utf-8", "surrogateescape")


class PrettyWriter:
    """RapidJSON's PrettyWriter: the same calls in the same order give the same text."""

    def __init__(self, *, single_line: bool = False, out: list[str] | None = None) -> None:
        self.single_line = single_line
        self._out: list[str] = [] if out is None else out
        self._levels: list[list[Any]] = []  # [is array, values so far]

    def text(self) -> str:
        """Everything written."""
        return "".join(self._out)

    def raw(self, text: str) -> None:
        """A value that is JSON text already."""
        self._prefix()
        self._out.append(text)

    def key(self, name: str) -> None:
        """A member's name."""
        self.raw(string(name))

    def start(self, *, array: bool) -> None:
        """Open an array or an object."""
        self._prefix()
        self._levels.append([array, 0])
        self._out.append("[" if array else "{")

    def end(self) -> None:
        """Close what was opened last."""
        array, count = self._levels.pop()
        if count and not (array and self.single_line):
            self._out.append("\n" + " " * (4 * len(self._levels)))
        self._out.append("]" if array else "}")

    def _prefix(self) -> None:
        if not self._levels:
            return
        level = self._levels[-1]
        array, count = level
        level[1] = count + 1
        if array:
            if count:
                self._out.append(", " if self.single_line else ",")
            if not self.single_line:
                self._out.append("\n" + " " * (4 * len(self._levels)))
        elif count % 2:
            self._out.append(": ")
        else:
            self._out.append((",\n" if count else "\n") + " " * (4 * len(self._levels)))


def nested(flat: Iterable[str], shape: Sequence[int], writer: PrettyWriter) -> None:
    """Write an array of `shape` whose elements are JSON texts; fast where there is one line, the writer elsewhere."""
    texts = list(flat)
    if not shape:
        writer.raw(texts[0])
    elif writer.single_line:
        for size in reversed(shape):
            if size == 0:
                texts = ["[]"] * math.prod(shape[: shape.index(0)])
                for outer in reversed(shape[: shape.index(0)]):
                    texts = _grouped(texts, outer)
                break
            texts = _grouped(texts, size)
        writer.raw(texts[0])
    else:
        _spread(iter(texts), shape, writer)


def _grouped(texts: list[str], size: int) -> list[str]:
    return ["[" + ", ".join(texts[at : at + size]) + "]" for at in range(0, len(texts), size)]


def _spread(texts: Any, shape: Sequence[int], writer: PrettyWriter) -> None:
    writer.start(array=True)
    for _ in range(shape[0]):
        if len(shape) == 1:
            writer.raw(next(texts))
        else:
            _spread(texts, shape[1:], writer)
    writer.end()


class _CannotWriteError(Exception):
    """RapidJSON's writer stops at a NaN or an infinity inside a value; this one at MAX_VALUE_TEXT as well."""


class _Bounded(list[str]):
    """The pieces of a text that ends where it gets too long."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def append(self, piece: str) -> None:
        self._size += len(piece)
        if self._size > MAX_VALUE_TEXT:
            super().append("...")
            raise _CannotWriteError
        super().append(piece)


def value_to_string(value: Any) -> str:
    """A parsed value in an error message: pretty, arrays on one line, nested decimals as RapidJSON's own dtoa.

    At most MAX_VALUE_TEXT characters, and `...` where that is not all.
    """
    if isinstance(value, float):
        return (float32 if _is_float(value) else float64)([value])[0]
    writer = PrettyWriter(single_line=True, out=_Bounded())
    try:
        _write(value, writer)
    except _CannotWriteError:
        return writer.text()
    return writer.text()


def _is_float(value: float) -> bool:
    return -3.4028234e38 <= value <= 3.4028234e38


def _write(root: Any, writer: PrettyWriter) -> None:
    todo: list[tuple[str, Any]] = [("value", root)]
    while todo:
        what, value = todo.pop()
        if what == "end":
            writer.end()
        elif what == "key":
            writer.key(value)
        elif isinstance(value, list):
            writer.start(array=True)
            todo.append(("end", None))
            todo.extend(("value", item) for item in reversed(value))
        elif isinstance(value, JsonObject):
            writer.start(array=False)
            todo.append(("end", None))
            for name, item in reversed(value.members):
                todo += [("value", item), ("key", name)]
        elif isinstance(value, float):
            if not math.isfinite(value):
                writer.raw("")
                raise _CannotWriteError
            writer.raw(dtoa(value))
        elif isinstance(value, str):
            writer.raw(string(value))
        else:
            writer.raw(
                {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
            )


def dtoa(value: float) -> str:
    """RapidJSON's Grisu2 with its layout: the shortest digits, plain up to 21 places, else an exponent."""
    digits, _, exponent = f"{value:.17e}".partition("e") if value else ("0", "", "0")
    if not value:
        return "-0.0" if math.copysign(1.0, value) < 0 else "0.0"
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len((whole + fraction).lstrip("0")))
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count) + ".0"
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    head = digits[0] + ("." + digits[1:] if count > 1 else "")
    return f"{sign}{head}e{point - 1}"
