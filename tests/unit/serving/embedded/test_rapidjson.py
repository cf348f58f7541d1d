from __future__ import annotations

import json
import math
import random
import time

import pytest

from serving.embedded.errors import ServingError
from serving.embedded.jsonout import MAX_VALUE_TEXT, float64, value_to_string
from serving.embedded.rapidjson import JsonObject, decimal, parse


def plain(value: object) -> object:
    if isinstance(value, JsonObject):
        return {key: plain(item) for key, item in reversed(value.members)}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "The document is empty"),
        (b" \n", "The document is empty. at offset: 2"),
        (b"\x00[1]", "The document is empty. at offset: 0"),
        (b"hello", "Invalid value. at offset: 0"),
        (b"nan", "Invalid value. at offset: 1"),
        (b"nul", "Invalid value. at offset: 3"),
        (b"truth", "Invalid value. at offset: 3"),
        (b"-", "Invalid value. at offset: 1"),
        (b"+1", "Invalid value. at offset: 0"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e+]", "Miss exponent in number. at offset: 4"),
        (b"[1e400]", "Number too big to be stored in double. at offset: 1"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[1", "Missing a comma or ']' after an array element. at offset: 2"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b"{a:1}", "Missing a name for object member. at offset: 1"),
        (b'{"a":1 "b":2}', "Missing a comma or '}' after an object member. at offset: 7"),
        (b'"abc', "Missing a closing quotation mark in string. at offset: 4"),
        (b'"a\x00b"', "Missing a closing quotation mark in string. at offset: 2"),
        (b'"a\nb"', "Invalid encoding in string. at offset: 2"),
        (b'"\\x"', "Invalid escape character in string. at offset: 1"),
        (b'"\\u12g4"', "Incorrect hex digit after \\u escape in string. at offset: 1"),
        (b'"\\ud800x"', "The surrogate pair in string is invalid. at offset: 1"),
    ],
)
def test_parse_errors_have_rapidjsons_reason_and_offset(body: bytes, told: str) -> None:
    with pytest.raises(ServingError) as error:
        parse(body)
    assert error.value.message == f"JSON Parse error: {told}"


@pytest.mark.parametrize("body", [b'{"a":1} trailing', b'\xef\xbb\xbf{"a":1}', b'{"a":1}\x00{', b' {"a" : 1 } '])
def test_leniencies(body: bytes) -> None:
    assert plain(parse(body)) == {"a": 1}


def test_of_duplicate_keys_the_first_one_counts() -> None:
    document = parse(b'{"x": 1, "x": 2}')
    assert document["x"] == 1
    assert len(document.members) == 2


def test_strings_keep_bytes_that_are_not_utf8() -> None:
    assert parse(b'"\xff\xfe"').encode("utf-8", "surrogateescape") == b"\xff\xfe"
    assert parse(b'"\\ud83d\\ude00\\u00e9\\/"') == "😀é/"


def test_numbers_that_are_not_finite() -> None:
    values = parse(b"[NaN, -NaN, Inf, -Inf, Infinity, -Infinity]")
    assert all(math.isnan(value) for value in values[:2])
    assert values[2:] == [math.inf, -math.inf, math.inf, -math.inf]


def test_integers_stay_integers_within_64_bits() -> None:
    values = parse(b"[-9223372036854775808, 18446744073709551615, 18446744073709551616, -9223372036854775809, 1.0, -0]")
    assert values == [-(2**63), 2**64 - 1, 2.0**64, -(2.0**63), 1.0, 0]
    assert [type(value) for value in values] == [int, int, float, float, float, int]


def test_decimals_are_read_by_the_fast_but_inexact_way() -> None:
    assert float64([decimal(b"123456789.123456789")]) == ["123456789.12345681"]  # as recorded
    assert decimal(b"123456789.123456789") != float("123456789.123456789")
    assert decimal(b"5e-324") == 0.0
    assert math.copysign(1, decimal(b"-1e-310")) == -1
    assert decimal(b"1e-400") == 0.0
    assert decimal(b"1e308") == 1e308
    assert math.isinf(decimal(b"1" + b"0" * 400))


@pytest.mark.parametrize("zeros", [1, 9, 5000])
def test_leading_zeros_of_an_exponent_mean_nothing(zeros: int) -> None:
    assert decimal(b"1e-" + b"0" * zeros + b"5") == 1e-05
    assert decimal(b"1e+" + b"0" * zeros + b"5") == decimal(b"1E" + b"0" * zeros + b"5") == 1e5
    assert decimal(b"-2.5e" + b"0" * zeros) == -2.5
    assert math.isinf(decimal(b"1e" + b"0" * zeros + b"9" * 5000))
    assert decimal(b"1e-" + b"0" * zeros + b"9" * 5000) == 0.0


def test_a_long_fraction_is_read_in_linear_time() -> None:
    started = time.process_time()
    assert decimal(b"0." + b"0" * 300 + b"1" * 1_000_000) == pytest.approx(1 / 9e300)
    assert decimal(b"0." + b"0" * 1_000_000) == 0.0
    assert time.process_time() - started < 5  # over a minute where every digit copies the rest


def test_short_decimals_are_exact() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        token = f"{rng.uniform(-1e6, 1e6):.{rng.randrange(1, 9)}f}"
        assert decimal(token.encode()) == float(token)


def test_decimals_are_within_a_few_units_of_the_true_value() -> None:
    rng = random.Random(2)
    for _ in range(2000):
        token = f"{rng.uniform(1, 10):.{rng.randrange(16, 25)}f}e{rng.randrange(-290, 290)}"
        assert decimal(token.encode()) == pytest.approx(float(token), rel=1e-14)


def test_random_documents_read_as_pythons_json_reads_them() -> None:
    rng = random.Random(3)

    def document(depth: int) -> object:
        kind = rng.randrange(7 if depth else 5)
        if kind == 5:
            return [document(depth - 1) for _ in range(rng.randrange(4))]
        if kind == 6:
            return {f"k{index}é": document(depth - 1) for index in range(rng.randrange(4))}
        return [None, True, rng.randrange(-(10**9), 10**9), rng.randrange(1000) / 8, 'a"\\\n\té😀'][kind]

    for _ in range(300):
        wanted = document(4)
        text = json.dumps(wanted, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2]))
        assert plain(parse(text.encode())) == wanted


def test_depth_is_no_limit() -> None:
    assert parse(b"[" * 50_000 + b"]" * 50_000)
    assert value_to_string(parse(b"[" * 5_000 + b"]" * 5_000)) == "[" * 5_000 + "]" * 5_000


def test_a_deep_value_in_a_message_is_cut() -> None:
    document = parse(b'{"x":' * 50_000 + b"1" + b"}" * 50_000)
    text = value_to_string(document)
    assert text.startswith('{\n    "x": {\n        "x": {\n')
    assert text.endswith("...")
    assert len(text) <= MAX_VALUE_TEXT + 3
    assert value_to_string("a" * MAX_VALUE_TEXT) == "..."


def test_values_in_messages_are_pretty_printed_with_arrays_on_one_line() -> None:
    value = parse(b'{"signature_name": 3, "instances": [1, 2.50, {"x": [true, null]}], "e": {}}')
    assert value_to_string(value) == (
        '{\n    "signature_name": 3,\n    "instances": [1, 2.5, {\n            "x": [true, null]\n        }],\n    "e": {}\n}'
    )
    assert value_to_string(parse(b"0.1")) == "0.1"
    assert value_to_string(parse(b"[1e21, 1e22, 0.00001, 1.5e-7]")) == "[1e21, 1e22, 0.00001, 1.5e-7]"


def test_printing_stops_at_a_number_json_does_not_have() -> None:
    assert value_to_string(parse(b"[1, NaN, 2]")) == "[1, "
