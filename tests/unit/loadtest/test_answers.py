"""loadtest.answers."""

import json

import numpy as np

from faceoff.golden import Golden
from faceoff.signature import image_classifier
from loadtest.answers import Judge, against_golden
from serving.codecs import JsonRest, Route

SIGNATURE = image_classifier((1, 1, 1), 2)
EXPECTED = Golden(
    inputs={"images": np.zeros((2, 1, 1, 1), dtype=np.float32)},
    outputs={"logits": np.array([[1, 2], [3, 4]], dtype=np.float32)},
)


CODEC = JsonRest(
    route=Route(protocol="rest", target="127.0.0.1:1", path="/"), encoding="json", signature=SIGNATURE, model="m", version=1
)


def judge() -> Judge:
    return Judge(against_golden(CODEC, EXPECTED, 1e-3), lambda body: CODEC.decode(body, 1))


def body(*logits: float) -> bytes:
    return json.dumps({"predictions": [list(logits)]}).encode()


def test_each_answer_is_held_against_its_own_golden_row() -> None:
    judged = judge()
    for number, (payload, answer) in enumerate([(0, body(1, 2)), (1, body(1, 2)), (1, body(3.0005, 4)), (0, b"nonsense")]):
        judged.add(number, payload, answer)
    assert judged.correct(np.array([0, 1, 2, 3, -1, 0])).tolist() == [1, 0, 1, 0, -1, 1]
    assert judged.first_problem is not None
    assert judged.first_problem.startswith("golden row 1: largest difference 2 exceeds the tolerance 0.001")


def test_nothing_wrong_nothing_said() -> None:
    judged = judge()
    judged.add(0, 0, body(1, 2))
    assert judged.first_problem is None
    assert judged.correct(np.array([], dtype=np.int64)).tolist() == []


def test_nan_and_a_wrong_shape_are_wrong() -> None:
    judged = judge()
    judged.add(0, 0, b'{"predictions": [[1, 2, 3]]}')
    judged.add(1, 0, b'{"predictions": [[1, null]]}')
    assert judged.correct(np.array([0, 1])).tolist() == [0, 0]


def test_what_decoding_and_judging_cost_is_known_once_there_was_an_answer() -> None:
    judged = judge()
    assert (judged.decode_us, judged.judging_us_per_request) == (None, None)
    judged.add(0, 0, b"nonsense")
    assert judged.decode_us is None  # nobody decodes that
    judged.add(1, 0, body(1, 2))
    judged.correct(np.array([1] * 4))
    many = judged.judging_us_per_request
    judged.correct(np.array([1] * 4))
    assert judged.decode_us is not None and judged.decode_us > 0
    assert many is not None and judged.judging_us_per_request == many / 2 > 0


def test_where_nothing_is_judged_it_costs_nothing() -> None:
    judged = Judge(None)
    judged.add(0, 0, b"")
    assert judged.correct(np.array([0, -1])).tolist() == [-1, -1]
    assert (judged.decode_us, judged.judging_us_per_request) == (None, None)
