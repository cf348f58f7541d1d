import math

import numpy as np
import pytest

from faceoff.errors import UsageError
from training import optimizers
from training.optimizers import Recipe


def test_the_corrected_epsilon_makes_torchs_formula_keras_own():
    rng, beta2 = np.random.default_rng(0), optimizers.BETAS[1]
    m = v = np.zeros(8)
    for step in range(1, 50):
        gradient = rng.normal(0, 10.0 ** rng.integers(-9, 0), 8)
        m, v = 0.9 * m + 0.1 * gradient, beta2 * v + (1 - beta2) * gradient**2
        keras = m * np.sqrt(1 - beta2**step) / (1 - 0.9**step) / (np.sqrt(v) + 1e-7)
        epsilon = optimizers.corrected_epsilon(step)
        torch = m / (1 - 0.9**step) / (np.sqrt(v) / np.sqrt(1 - beta2**step) + epsilon)
        assert torch == pytest.approx(keras, rel=1e-12)


def test_the_presets_optimizer_is_the_default_and_another_brings_its_own_rate():
    preset = {"preset_name": "sgd", "preset_rate": 0.05, "preset_momentum": 0.8}
    assert optimizers.choose(**preset) == Recipe(name="sgd", learning_rate=0.05, momentum=0.8)
    assert optimizers.choose(**preset, name="adam").learning_rate == 0.001
    assert optimizers.choose(**preset, name="adam", rate=0.003).learning_rate == 0.003
    assert optimizers.choose(**preset).native().equal is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "lion", "learning_rate": 0.1}, "unknown optimizer 'lion': expected one of adam, adamw, sgd"),
        ({"name": "sgd", "learning_rate": 0.0}, "expected a finite rate above 0"),
        ({"name": "sgd", "learning_rate": math.nan}, "found learning rate nan .* expected a finite rate"),
        ({"name": "adam", "learning_rate": math.inf}, "found learning rate inf .* expected a finite rate"),
        ({"name": "sgd", "learning_rate": 0.1, "momentum": 1.0}, "expected a finite rate above 0 and a momentum"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(options, words):
    with pytest.raises(UsageError, match=words):
        Recipe(**options)
