"""Every model of the zoo is one model: equal weights give equal outputs, layer by layer, and a broken pair is named."""

import json

import numpy as np
import pytest

from faceoff import presets, processes
from faceoff.errors import FaceoffError
from tests.conftest import roots, run_module
from training import compare_layers, weights
from training import plan as plans
from training.datasets import load

LARGE = ("resnet50", "bert-base")
# What each model must have in millions, from its paper or a count by hand.
PARAMETERS = {"resnet50": (25.5e6, 25.6e6), "bert-base": (109e6, 110e6), "resnet8": (77e3, 79e3)}


def marked(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in names]


@pytest.mark.parametrize("name", marked(presets.MODELS))
def test_equal_weights_give_equal_outputs_in_every_layer(name):
    done = run_module("training.compare_layers", "--model", name)
    assert (done.code, done.result["status"], done.result["first_layer_apart"]) == (0, "ok", None), done.stderr[-2000:]
    layers = done.result["layers"]
    assert layers[-1]["name"].startswith("output ")
    assert layers[-1]["max_abs_difference"] <= presets.model(name).tolerances.frameworks
    if name != "identity":
        assert any(layer["max_abs_difference"] > 0 for layer in layers) or len(layers) < 5
        assert all(layer["max_abs_value"] > 0 for layer in layers)  # nothing is equal because it is nothing


@pytest.mark.parametrize(
    ("model", "mistake", "broken", "layer"),
    [
        ("cnn", "bn_eps", "tf", "bn1"),
        ("lstm", "lstm_bias", "torch", "recurrent.0"),
        ("transformer", "gelu_variant", "tf", "blocks.0.gelu"),
        ("resnet8", "padding", "tf", "stages.1.0.conv1"),
    ],
)
def test_a_broken_pair_is_caught_and_the_layer_is_named(tmp_path, model, mistake, broken, layer):
    preset = presets.model(model)
    compare_layers.write_plan(tmp_path, preset, load(preset.datasets[0], preset))
    whole = {"torch": "tf", "tf": "torch"}[broken]
    compare_layers.run(whole, tmp_path)
    processes.run_stage("tests.fakes.broken_pairs", mistake, "--plan", str(tmp_path))
    layers = compare_layers.compare(tmp_path, preset.tolerances.frameworks)
    with pytest.raises(FaceoffError, match=f"part at layer '{layer}'") as caught:
        compare_layers.verdict(model, layers, {})
    assert caught.value.details["first_layer_apart"] == layer


def test_a_layer_that_only_one_side_has_is_named_and_not_compared(tmp_path, capsys):
    for framework, names in (("torch", ("a", "b")), ("tf", ("a", "c"))):
        weights.save(tmp_path / framework / "layers.npz", {name: np.ones(3, np.float32) for name in names})
    layers, alone = compare_layers.compare(tmp_path, 1e-5), compare_layers.only_in(tmp_path)
    assert [layer["name"] for layer in layers] == ["a"]
    assert compare_layers.verdict("x", layers, alone)["only_in"] == {"torch": ["b"], "tf": ["c"]}
    said = capsys.readouterr().err
    assert "only torch makes a layer of b" in said
    assert "only tf makes a layer of c" in said


def test_layers_of_other_shapes_or_of_no_number_are_not_equal(tmp_path):
    for framework in ("torch", "tf"):
        weights.save(tmp_path / framework / "layers.npz", {"a": np.ones(3, np.float32)})
    weights.save(tmp_path / "tf" / "layers.npz", {"a": np.ones((3, 1), np.float32)})
    with pytest.raises(FaceoffError, match="layer 'a' gives"):
        compare_layers.compare(tmp_path, 1e-5)
    weights.save(tmp_path / "tf" / "layers.npz", {"a": np.full(3, np.nan, np.float32)})
    with pytest.raises(FaceoffError, match="part at layer 'a'"):
        compare_layers.verdict("x", compare_layers.compare(tmp_path, 1e-5), {})


@pytest.mark.slow
@pytest.mark.parametrize("name", presets.MODELS)
def test_every_model_trains(tmp_path, name):
    from faceoff.store import Store

    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    done = run_module("training.train", "--model", name, "--profile", "quick", *roots(store), timeout_s=900)
    assert done.code == 0, done.stderr[-3000:]
    tolerance = presets.model(name).tolerances.frameworks
    for source in ("torch", "tf"):
        assert done.result["agreement"][source]["max_abs_logit_difference"] <= tolerance
    record = json.loads((store.model_dir(name) / "torch" / "record.json").read_text())
    if name not in (*LARGE, "resnet8", "dcgan", "identity"):  # a few steps teach nothing; the last two have no right answers
        classes = plans.read(store.model_dir(name)).signature.outputs[0].shape[-1]
        assert record["test_accuracy"] > 2.5 / classes
        assert np.mean(record["losses"][-10:]) < 0.9 * record["losses"][0]
    low, high = PARAMETERS.get(name, (0, 1e6))
    assert low <= record["num_parameters"] <= high
    plan = plans.read(store.model_dir(name))
    assert len(plan.golden_inputs()) == len(plan.signature.inputs)
