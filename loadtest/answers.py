"""Judges answers: each distinct answer to a payload is decoded and compared once, by the stage, after its window."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from faceoff import golden
from faceoff.golden import Golden
from loadtest.loops import NO_ANSWER
from serving.codecs import Codec, DecodeError

Problem = Callable[[int, bytes], str | None]  # payload, body -> what is wrong with it
Decode = Callable[[bytes], object]  # what a client does with an answer; raises DecodeError


class Judge:
    """Which answers of one engine are right. Numbers are the engine's own for its distinct answers.

    `problem` None: nothing is expected, and no answer is right or wrong. `decode` is timed apart, as a client's own cost.
    """

    def __init__(self, problem: Problem | None, decode: Decode | None = None) -> None:
        self._problem, self._decode = problem, decode
        self._verdicts: list[int] = []
        self._decode_ns: list[int] = []
        self._judging_ns = self._num_rows = 0
        self.first_problem: str | None = None

    @property
    def decode_us(self) -> float | None:
        """What decoding an answer took, mean over the distinct ones, in microseconds."""
        return sum(self._decode_ns) / len(self._decode_ns) / 1000 if self._decode_ns else None

    @property
    def judging_us_per_request(self) -> float | None:
        """What telling right from wrong has cost so far, in microseconds for each row judged; None where nothing is."""
        return self._judging_ns / self._num_rows / 1000 if self._problem is not None and self._num_rows else None

    def add(self, number: int, payload: int, body: bytes) -> None:
        """Judge one new answer to `payload`."""
        assert number == len(self._verdicts), "answers are numbered in order"
        if self._problem is None:
            self._verdicts.append(-1)
            return
        self._time_decoding(body)
        before = time.perf_counter_ns()
        problem = self._problem(payload, body)
        self._judging_ns += time.perf_counter_ns() - before
        self._verdicts.append(1 if problem is None else 0)
        if problem is not None and self.first_problem is None:
            self.first_problem = problem

    def correct(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """For each row's answer number: 1 right, 0 wrong, -1 no answer, or nothing to judge it by."""
        assert NO_ANSWER == -1
        self._num_rows += len(numbers)
        verdicts = np.array([*self._verdicts, -1], dtype=np.int64)  # NO_ANSWER is the last place
        return verdicts[numbers]

    def _time_decoding(self, body: bytes) -> None:
        if self._decode is None:
            return
        before = time.perf_counter_ns()
        try:
            self._decode(body)
        except DecodeError:  # judged as wrong
            return
        self._decode_ns.append(time.perf_counter_ns() - before)


def against_golden(codec: Codec, expected: Golden, tolerance: float, num_rows: int = 1) -> Problem:
    """Payload p holds `num_rows` golden rows from p on."""

    def problem(payload: int, body: bytes) -> str | None:
        rows = expected.rows(payload, num_rows)
        try:
            found = golden.compare(codec.decode(body, num_rows), rows.outputs, tolerance).problem
        except DecodeError as error:
            found = str(error)
        return None if found is None else f"golden row {payload}: {found}"

    return problem


def against_bodies(expected: Sequence[bytes], tolerance: float) -> Problem:
    """The expected bytes, or a JSON document that is the same up to `tolerance` in its numbers."""
    documents = [_document(body) for body in expected]

    def problem(payload: int, body: bytes) -> str | None:
        if body == expected[payload]:
            return None
        found = _document(body)
        if documents[payload] is not _NO_DOCUMENT and _same(found, documents[payload], tolerance):
            return None
        return f"body {payload}: the answer {body[:60]!r} ({len(body)} bytes) is not the expected {expected[payload][:60]!r}"

    return problem


_NO_DOCUMENT = object()


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return _NO_DOCUMENT


def _same(found: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(_same(found[key], value, tolerance) for key, value in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(_same(a, b, tolerance) for a, b in zip(found, expected, strict=True))
        )
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        if isinstance(found, bool) or not isinstance(found, int | float):
            return False
        return found == expected or (math.isfinite(found) and abs(found - expected) <= tolerance)
    return type(found) is type(expected) and bool(found == expected)
