import numpy as np
import pytest

from faceoff import presets
from faceoff.errors import UsageError
from training import golden_rows, tasks
from training import plan as plans
from training.datasets import load

CNN = presets.model("cnn")


def test_batches_are_epochs_of_shuffled_rows_drawn_once():
    batches = plans.draw_batches(num_rows=10, batch_size=4, num_steps=5, seed=3)
    assert (batches.shape, batches.dtype) == ((5, 4), np.int32)
    assert len(set(batches[:2].ravel())) == 8  # no row twice within an epoch
    assert np.array_equal(batches, plans.draw_batches(10, 4, 5, 3))
    assert not np.array_equal(batches, plans.draw_batches(10, 4, 5, 4))
    with pytest.raises(ValueError, match="exceeds"):
        plans.draw_batches(3, 4, 1, 0)


def test_digits_are_nhwc_float32_and_the_same_every_time():
    one, two = load("digits", CNN), load("digits", CNN)
    (train,), (test,), (again,) = one.train.inputs, one.test.inputs, two.test.inputs
    assert (train.shape, test.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert (train.dtype, one.train.targets.dtype) == (np.float32, np.int64)
    assert train.min() == 0.0
    assert train.max() == 1.0
    assert np.array_equal(test, again)
    assert len(np.unique(one.test.targets)) == 10


def test_an_unknown_data_set_says_what_is_known():
    with pytest.raises(UsageError, match=r"unknown data set 'digit': expected one of cifar10, .*digits"):
        load("digit", CNN)


def test_a_plan_reads_back(tmp_path):
    preset, dataset = CNN, load("digits", CNN)
    written = plans.write(tmp_path, preset=preset, dataset=dataset, profile="quick", threads=1, device="cpu")
    plan = plans.read(tmp_path)
    assert plan.num_steps == written["num_steps"] == len(plan.batches)
    assert plan.architecture == preset.architecture
    assert np.array_equal(plan.test_inputs["images"], dataset.test.inputs[0])
    rows = plan.golden_inputs()["images"]
    assert rows.shape == (128, 8, 8, 1)
    assert len(np.unique(rows.reshape(128, -1), axis=0)) == 128  # a swapped answer must be visible
    assert not rows[120].any()  # zeros are among them


@pytest.mark.parametrize("name", presets.MODELS)
def test_every_model_gets_golden_rows_that_fit_and_differ(name):
    preset = presets.model(name)
    dataset = load("synthetic", preset)
    signature, train, test = tasks.prepare(preset, dataset)
    assert signature.check_inputs(train.inputs) == len(train.targets) == preset.synthetic.num_train
    vocabulary = preset.architecture.get("vocabulary", 0)
    rows = golden_rows.draw(signature, test.inputs, count=preset.num_golden_rows, vocabulary=vocabulary, seed=1)
    assert signature.check_inputs(rows) == preset.num_golden_rows
    joined = np.concatenate([array.reshape(preset.num_golden_rows, -1) for array in rows.values()], axis=1)
    assert len(np.unique(joined, axis=0)) >= preset.num_golden_rows - 1
    for spec in signature.inputs:
        if spec.dtype == "int32":
            assert rows[spec.name].min() >= 0
            assert rows[spec.name].max() == (1 if spec.name == "mask" else vocabulary - 1)
    if "mask" in rows:
        lengths = rows["mask"].sum(1)
        assert (lengths.min(), lengths.max()) == (1, signature.inputs[1].shape[0])
        assert (rows["mask"][lengths == 1, 0] == 1).all()


def test_synthetic_targets_are_what_the_module_says():
    preset = presets.model("seq2seq")
    rows = load("synthetic", preset).test
    (source, so_far), answer = rows.inputs, rows.targets
    size = int((source[0] != 0).sum())
    assert answer[0, :size].tolist() == source[0, :size][::-1].tolist()
    assert so_far[0, 0] == 1
    assert so_far[0, 1:size].tolist() == answer[0, : size - 1].tolist()
    assert not answer[0, size:].any()
    again = load("synthetic", preset).test.inputs[0]
    assert np.array_equal(source, again)


def test_token_models_refuse_images():
    with pytest.raises(UsageError, match="DATASET=synthetic"):
        tasks.prepare(presets.model("transformer"), load("digits", CNN))


def test_images_are_read_line_by_line_by_recurrent_models_and_flat_by_an_mlp():
    dataset = load("digits", CNN)
    _, sequences, _ = tasks.prepare(presets.model("lstm"), dataset)
    _, features, _ = tasks.prepare(presets.model("mlp"), dataset)
    images = dataset.train.inputs[0]
    assert np.array_equal(sequences.inputs["sequences"][5, 3], images[5, 3, :, 0])
    assert np.array_equal(features.inputs["features"], images.reshape(len(images), 64))
