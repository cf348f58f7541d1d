import numpy as np
import pytest

from faceoff.errors import CorruptError, FaceoffError
from training import weights

SHAPES = {
    "conv1/kernel": (3, 3, 1, 4),
    "conv1/bias": (4,),
    "bn1/gamma": (4,),
    "bn1/moving_mean": (4,),
    "bn1/moving_variance": (4,),
}


def test_the_same_names_shapes_and_seed_give_the_same_weights_in_any_order():
    one = weights.draw(SHAPES, 7)
    two = weights.draw(dict(reversed(SHAPES.items())), 7)
    assert weights.digest(one) == weights.digest(two)
    assert weights.digest(one) != weights.digest(weights.draw(SHAPES, 8))


def test_kinds_are_drawn_by_their_rule():
    drawn = weights.draw(SHAPES, 7)
    limit = np.sqrt(6.0 / (9 * 1 + 9 * 4))
    assert 0.5 * limit < np.abs(drawn["conv1/kernel"]).max() <= limit
    assert drawn["conv1/bias"].tolist() == [0] * 4
    assert drawn["bn1/moving_variance"].tolist() == [1] * 4
    assert all(array.dtype == np.float32 for array in drawn.values())
    with pytest.raises(ValueError, match="no rule to draw"):
        weights.draw({"lstm/magic": (3,)}, 1)


def test_the_second_framework_gets_what_the_first_drew(tmp_path):
    first = weights.load_or_draw(tmp_path / "initial.npz", SHAPES, 7)
    second = weights.load_or_draw(tmp_path / "initial.npz", SHAPES, 99)
    assert weights.digest(first) == weights.digest(second)


@pytest.mark.parametrize("other", [{**SHAPES, "conv1/bias": (5,)}, {"conv1/kernel": (3, 3, 1, 4)}, {**SHAPES, "more/bias": (1,)}])
def test_a_pair_that_describes_another_model_is_named(tmp_path, other):
    weights.load_or_draw(tmp_path / "initial.npz", SHAPES, 7)
    with pytest.raises(CorruptError, match="two models differ"):
        weights.load_or_draw(tmp_path / "initial.npz", other, 7)


def test_running_statistics_are_not_parameters():
    assert weights.num_parameters(weights.draw(SHAPES, 1)) == 36 + 4 + 4


def test_a_broken_file_is_corrupt(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"PK")
    with pytest.raises(CorruptError, match="cannot read weights"):
        weights.load(tmp_path / "w.npz")


def test_a_plain_rnn_starts_as_the_identity_and_is_compared_as_something_else():
    drawn = weights.draw({"l/recurrent_kernel": (4, 4)}, seed=1)
    assert (drawn["l/recurrent_kernel"] == np.eye(4)).all()
    disturbed = weights.disturbed(drawn, seed=2)["l/recurrent_kernel"]
    assert not np.allclose(disturbed, disturbed.T)  # or a transposed kernel would pass


def test_recurrent_embedding_and_residual_kinds():
    shapes = {"l/kernel": (3, 16), "l/recurrent_kernel": (4, 16), "l/bias": (16,), "e/embeddings": (500, 64)}
    drawn = weights.draw({**shapes, "block.last_norm/gamma": (4,)}, 7)
    assert drawn["l/bias"].tolist() == [0] * 4 + [1] * 4 + [0] * 8  # the forget gate starts open
    assert np.abs(drawn["l/recurrent_kernel"]).max() <= np.sqrt(3 / 4)
    assert drawn["e/embeddings"].std() == pytest.approx(1 / 8, rel=0.02)
    assert drawn["block.last_norm/gamma"].tolist() == [0] * 4
    disturbed = weights.disturbed(drawn, 7)
    assert np.array_equal(disturbed["l/kernel"], drawn["l/kernel"])
    assert (disturbed["block.last_norm/gamma"] != 0).all()


def test_what_does_not_come_back_is_named():
    one = {"a/kernel": np.ones(2, np.float32)}
    weights.check_same(one, one, "torch")
    with pytest.raises(FaceoffError, match="'a/kernel' does not come back from the torch model"):
        weights.check_same({"a/kernel": np.zeros(2, np.float32)}, one, "torch")
