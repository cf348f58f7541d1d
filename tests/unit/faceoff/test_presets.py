import dataclasses

import pytest

from faceoff import presets
from faceoff.errors import UsageError


@pytest.mark.parametrize("name", presets.MODELS)
def test_every_registered_model_has_a_preset_that_holds(name):
    preset = presets.model(name)
    assert preset.datasets
    assert set(preset.training.steps) >= {"quick", "full"}
    assert preset.tolerances.reason
    assert (presets.PRESETS.parent / "training" / f"{preset.module}_torch.py").exists()
    assert (presets.PRESETS.parent / "training" / f"{preset.module}_tf.py").exists()


@pytest.mark.parametrize("kind", ["torchserve", "tfserving", "tfserving-embedded"])
@pytest.mark.parametrize("tuning", ["default", "tuned"])
def test_every_server_has_both_settings(kind, tuning):
    assert presets.server(kind, tuning).settings


def test_unknown_names_say_what_is_known():
    with pytest.raises(UsageError, match=r"unknown model 'cn': expected one of .*cnn, .*\(set MODEL"):
        presets.model("cn")
    with pytest.raises(UsageError, match="full, quick"):
        presets.load_profile("slow")
    with pytest.raises(UsageError, match="TUNING"):
        presets.server("torchserve", "best")


def test_values_are_checked():
    profile = presets.load_profile("quick")
    with pytest.raises(UsageError, match="rate_fraction"):
        dataclasses.replace(profile, rate_fraction=1.5)
    with pytest.raises(UsageError, match="learning_rate"):
        dataclasses.replace(presets.model("cnn").training, learning_rate=0.0)
    with pytest.raises(UsageError, match="tolerances"):
        dataclasses.replace(presets.model("cnn").tolerances, wire=1e-9)


def test_a_misspelt_key_is_named():
    with pytest.raises(UsageError, match=r"missing keys \['reason'\], unknown keys \['raeson'\]"):
        presets._build(presets.Tolerances, {"frameworks": 1, "artifact": 1, "wire": 1, "raeson": ""})
