"""Accuracy over the whole test set: every row once and in order, whatever the calls; models without right answers have none."""

import numpy as np
import pytest

from export import quality
from faceoff.evaluation import EvaluationSet
from faceoff.golden import Golden

LOGITS = np.eye(3, dtype=np.float32)[np.arange(150) % 3]


def evaluation(*, loss="cross_entropy", trained_accuracy=1.0):
    rows = Golden(inputs={"rows": np.arange(150, dtype=np.float32)}, outputs={"logits": LOGITS})
    return EvaluationSet(rows=rows, targets=np.arange(150) % 3, loss=loss, trained_accuracy=trained_accuracy)


def test_every_row_is_asked_once_and_in_order():
    calls = []

    def predict(inputs):
        calls.append(len(inputs["rows"]))
        return {"logits": LOGITS[inputs["rows"].astype(int)]}

    found = quality.measure(predict, evaluation())
    assert calls == [64, 64, 22]
    assert (found.test_accuracy, found.test_accuracy_float32, found.num_test_rows) == (1.0, 1.0, 150)
    assert found.indicative_ms_per_row > 0


def test_right_answers_in_another_order_are_wrong_answers():
    found = quality.measure(lambda inputs: {"logits": np.roll(LOGITS[inputs["rows"].astype(int)], 1, axis=0)}, evaluation())
    assert found.test_accuracy < 0.1


@pytest.mark.parametrize(("accuracy", "refused"), [(0.9801, False), (0.9799, True), (1.0, False)])
def test_the_least_accuracy_is_a_share_of_float32s(accuracy, refused):
    found = quality.Quality(test_accuracy=accuracy, test_accuracy_float32=0.99, num_test_rows=10, indicative_ms_per_row=1.0)
    problem = found.problem(0.99)
    assert (problem is not None) == refused
    assert not refused or "accuracy 0.9799 on the 10 rows of the test set, float32 has 0.9900" in problem


def test_a_model_that_gives_no_right_answers_is_judged_by_its_tolerance_alone():
    found = quality.measure(lambda inputs: {"logits": LOGITS[:1]}, evaluation(loss="adversarial", trained_accuracy=None))
    assert found.test_accuracy is None
    assert found.problem(0.99) is None
