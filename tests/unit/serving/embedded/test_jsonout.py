from __future__ import annotations

import json
import math

import numpy as np
import pytest

from serving.embedded import jsonout


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2.0"), (2.5, "2.5"), (0.1, "0.1"), (1e-7, "1e-07"), (1e6, "1e+06"), (1234560.0, "1.23456e+06"),
        (1048576.0, "1048576.0"), (123456.78125, "123456.781"), (16777216.0, "16777216.0"), (100000.0, "100000.0"),
        (-0.0, "-0.0"), (3e38, "3e+38"), (-2.83984375, "-2.83984375"), (1e-40, "0.0"), (-1e-40, "-0.0"),
        (math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"),
    ],
)  # fmt: skip
def test_float32_texts_of_the_notes(value: float, text: str) -> None:
    assert jsonout.float32([float(np.float32(value))]) == [text]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"), (2.0, "2.0"), (16777217.0, "16777217.0"), (1e15, "1e+15"), (1e22, "1e+22"), (1e300, "1e+300"),
        (1 / 3, "0.33333333333333331"), (5e-324, "0.0"), (-math.inf, "-Infinity"), (math.nan, "NaN"),
    ],
)  # fmt: skip
def test_float64_texts_of_the_notes(value: float, text: str) -> None:
    assert jsonout.float64([value]) == [text]


def test_float32_texts_read_back() -> None:
    values = np.random.default_rng(0).standard_normal(5000).astype("f4")
    values[::3] *= np.float32(1e20)
    values[1::3] *= np.float32(1e-20)
    texts = jsonout.float32(values.tolist())
    assert np.array_equal(np.array([float(text) for text in texts], "f4"), values)


def test_strings_escape_what_rapidjson_escapes() -> None:
    assert jsonout.string('A"\\\n\t\x01/<é\x7f') == '"A\\"\\\\\\n\\t\\u0001/<é\x7f"'
    assert jsonout.encoded(jsonout.string(b"\xff".decode("utf-8", "surrogateescape"))) == b'"\xff"'


def test_the_writer_lays_out_as_json_dumps_with_four_spaces() -> None:
    writer = jsonout.PrettyWriter()
    writer.start(array=False)
    writer.key("a")
    jsonout.nested(["1", "2", "3", "4", "5", "6"], (2, 3), writer)
    writer.key("b")
    writer.start(array=True)
    writer.end()
    writer.end()
    assert writer.text() == json.dumps({"a": [[1, 2, 3], [4, 5, 6]], "b": []}, indent=4)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (1, 2, 3), (2, 0), (0, 2), (0,), (2, 0, 3)])
def test_one_line_arrays_of_any_shape(shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    writer = jsonout.PrettyWriter(single_line=True)
    jsonout.nested([str(item) for item in array.ravel()], shape, writer)
    assert writer.text() == json.dumps(array.tolist())
