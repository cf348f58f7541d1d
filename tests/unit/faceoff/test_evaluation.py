import numpy as np
import pytest

from faceoff import evaluation


def test_accuracy_counts_tokens_but_not_padding():
    logits = np.eye(3, dtype=np.float32)[np.array([[1, 2, 0], [1, 0, 0]])]
    assert evaluation.accuracy("token_cross_entropy", logits, np.array([[1, 2, 0], [2, 0, 0]])) == pytest.approx(2 / 3)
    assert evaluation.accuracy("cross_entropy", logits[0], np.array([1, 2, 2])) == pytest.approx(2 / 3)
    assert evaluation.accuracy("adversarial", logits, logits) is None
