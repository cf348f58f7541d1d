import numpy as np
import pytest

from export.check import Check, RefusedError, run, tolerance
from faceoff import presets
from faceoff.evaluation import EvaluationSet
from faceoff.golden import Golden
from faceoff.manifest import Manifest
from faceoff.servables import Servable, Trained
from faceoff.signature import image_classifier

SERVABLE = Servable(name="torch-onnx", source="torch", format="onnx", path="cnn.onnx", size_bytes=3, export_s=0.1)


@pytest.fixture
def trained(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(128, 8, 8, 1)).astype(np.float32)
    config = {"preset": {"tolerances": {"artifact": 1e-5}}}
    return Trained(
        directory=tmp_path,
        manifest=Manifest(stage="train", model="cnn", created="", config=config),
        signature=image_classifier((8, 8, 1), 10),
        golden=Golden(inputs={"images": images}, outputs={"logits": answer(images)}),
    )


def examine(trained, predict, reproduce="python -m x", lengths=(), **more):
    how = {"tolerance": 1e-5, "reproduce": reproduce, "runtime": "runtime 1.0", "load_s": 0.1, **more}
    about = Check(servable=SERVABLE, trained=trained, **how)
    return run(about, predict, list(lengths))["artifact"]


def answer(images):
    return images.reshape(len(images), -1)[:, :10].copy()


def test_a_right_artifact_is_verified_at_every_batch_size(trained):
    seen = []

    def predict(inputs):
        seen.append(len(inputs["images"]))
        return {"logits": answer(inputs["images"])}

    record = examine(trained, predict)
    assert record["status"] == "verified"
    assert [c["batch_size"] for c in record["checks"]] == [1, 2, 17, 64]
    assert sorted(set(seen)) == [1, 2, 17, 64]
    assert record["max_abs_difference"] == 0.0


def wrong(change):
    def predict(inputs):
        return change(answer(inputs["images"]))

    return predict


def swapped(logits):
    return {"logits": logits[::-1].copy()}


@pytest.mark.parametrize(
    ("predict", "words"),
    [
        (wrong(lambda logits: {"logits": logits + np.float32(1e-3)}), "exceeds the tolerance"),
        (wrong(lambda logits: {"output_0": logits}), "named"),
        (wrong(lambda logits: {"logits": logits.astype(np.float64)}), "dtype"),
        (wrong(lambda logits: {"logits": logits[:, :9]}), "shape"),
        (wrong(lambda logits: {"logits": np.full_like(logits, np.nan)}), "NaN or Inf"),
        (wrong(swapped), "batch of 2"),
    ],
)
def test_a_wrong_artifact_is_refused_with_reason_tolerance_and_command(trained, predict, words):
    with pytest.raises(RefusedError, match=words) as caught:
        examine(trained, predict, "python -m export.verify_onnx --artifact torch-onnx")
    assert "reproduce: python -m export.verify_onnx --artifact torch-onnx" in str(caught.value)
    assert "tolerance 1e-05" in str(caught.value)
    record = caught.value.details["artifact"]
    assert record["status"] == "refused"
    assert record["reason"]


def test_no_difference_that_could_be_taken_is_null_not_infinity(trained):
    with pytest.raises(RefusedError) as caught:
        examine(trained, wrong(lambda logits: {"x": logits}))
    assert caught.value.details["artifact"]["max_abs_difference"] is None


def test_what_a_runtime_raises_is_a_refusal_with_its_words(trained):
    def predict(inputs):
        if len(inputs["images"]) == 17:
            raise RuntimeError("only 16 rows were planned")
        return {"logits": answer(inputs["images"])}

    with pytest.raises(RefusedError, match="batch of 17: RuntimeError: only 16 rows were planned"):
        examine(trained, predict)


def test_rows_of_another_length_are_held_to_their_own_outputs(trained):
    short = trained.golden.rows(0, 3)
    good = examine(trained, wrong(lambda logits: {"logits": logits}), lengths=[short])
    assert good["checks"][-1]["length"] == short.inputs["images"].shape[1]
    bad = Golden(inputs=short.inputs, outputs={"logits": short.outputs["logits"] + 1})
    with pytest.raises(RefusedError, match="batch of 3, length 8"):
        examine(trained, wrong(lambda logits: {"logits": logits}), lengths=[bad])


def test_the_relative_difference_is_in_units_of_the_largest_output(trained):
    record = examine(trained, wrong(lambda logits: {"logits": logits + np.float32(5e-6)}))
    largest = np.abs(trained.golden.outputs["logits"]).max()
    # Each batch is measured by its own largest output, so the worst is at least this.
    assert record["max_rel_difference"] >= record["max_abs_difference"] / largest


def test_a_lower_precision_is_judged_by_the_largest_output_and_float32_by_the_models_own_tolerance(trained):
    factors = {"float32": {"onnx": 2.0}, "int8": {"onnx-int8": 0.05}}
    preset = presets.ExportPreset(tolerance_factors=factors, min_accuracy_ratio=0.99, lengths=[1])
    assert tolerance(preset, trained, "float32", "onnx") == pytest.approx(2e-5)
    largest = float(np.abs(trained.golden.outputs["logits"]).max())
    assert tolerance(preset, trained, "int8", "onnx-int8") == pytest.approx(0.05 * largest)


@pytest.mark.parametrize(("num_wrong", "refused"), [(1, False), (2, True)])
def test_an_artifact_within_its_tolerance_that_is_too_often_wrong_is_refused(trained, num_wrong, refused):
    """The first two of ten classes are almost equal: a difference of 0.2 changes the answer."""
    rows = trained.golden.rows(0, 100)
    logits = np.tile(np.array([1.0, 0.9, *[0.0] * 8], np.float32), (100, 1))
    test_set = Golden(inputs={"images": np.zeros_like(rows.inputs["images"])}, outputs={"logits": logits})
    right = np.zeros(100, np.int64)
    about = EvaluationSet(rows=test_set, targets=right, loss="cross_entropy", trained_accuracy=1.0)
    seen = 0

    def predict(inputs):
        nonlocal seen
        if inputs["images"].any():
            return {"logits": answer(inputs["images"])}
        found = np.tile(logits[:1], (len(inputs["images"]), 1))
        found[: max(num_wrong - seen, 0), 1] = 1.1
        seen += len(found)
        return {"logits": found}

    how = {"tolerance": 0.5, "precision": "int8", "evaluation": about, "min_accuracy_ratio": 0.99}
    if refused:
        with pytest.raises(RefusedError, match=r"accuracy 0.9800 .* float32 has 1.0000: expected at least 0.99") as caught:
            examine(trained, predict, **how)
        record = caught.value.details["artifact"]
    else:
        record = examine(trained, predict, **how)
    assert record["status"] == ("refused" if refused else "verified")
    found = (record["precision"], record["test_accuracy"], record["test_accuracy_float32"], record["num_test_rows"])
    assert found == ("int8", 1 - num_wrong / 100, 1.0, 100)


def test_an_artifact_of_an_export_in_float32_alone_answers_no_test_set(trained):
    record = examine(trained, lambda inputs: {"logits": answer(inputs["images"])})
    assert "test_accuracy" not in record
    assert record["precision"] == "float32"
