"""Accuracy over the whole test set: every row once and in order, whatever the calls; models without right answers have none."""

import numpy as np

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


def test_a_model_that_gives_no_right_answers_is_judged_by_its_tolerance_alone():
    about = evaluation(loss="adversarial", trained_accuracy=None)
    found = quality.measure(lambda inputs: {"logits": LOGITS[:1]}, about)
    assert found.test_accuracy is None
    assert about.problem(found.test_accuracy, 0.99) is None
