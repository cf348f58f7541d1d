import numpy as np
import pytest

from faceoff import evaluation
from faceoff.golden import Golden


def test_accuracy_counts_tokens_but_not_padding():
    logits = np.eye(3, dtype=np.float32)[np.array([[1, 2, 0], [1, 0, 0]])]
    assert evaluation.accuracy("token_cross_entropy", logits, np.array([[1, 2, 0], [2, 0, 0]])) == pytest.approx(2 / 3)
    assert evaluation.accuracy("cross_entropy", logits[0], np.array([1, 2, 2])) == pytest.approx(2 / 3)
    assert evaluation.accuracy("adversarial", logits, logits) is None


@pytest.mark.parametrize(("accuracy", "trained", "refused"), [(0.9801, 0.99, False), (0.9799, 0.99, True), (1.0, 0.99, False)])
def test_the_least_accuracy_is_a_share_of_training_s(accuracy, trained, refused):
    rows = Golden(inputs={"x": np.zeros(10)}, outputs={"y": np.zeros((10, 2))})
    about = evaluation.EvaluationSet(rows=rows, targets=np.zeros(10), loss="cross_entropy", trained_accuracy=trained)
    problem = about.problem(accuracy, 0.99)
    assert (problem is not None) == refused
    assert not refused or "accuracy 0.9799 on the 10 rows of the test set, float32 has 0.9900" in problem
    assert about.problem(None, 0.99) is None
