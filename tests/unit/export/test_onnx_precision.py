"""ONNX files made smaller: inputs and outputs stay, the weights do not, and what cannot be converted is an error."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import onnx_precision
from export.writing import UnsupportedError
from faceoff.golden import Golden
from faceoff.signature import image_classifier

RNG = np.random.default_rng(0)


@pytest.fixture
def trained(tmp_path):
    """What the converters ask of a trained model: its training rows, its golden rows, the names of its inputs."""
    rows = RNG.uniform(0, 1, (300, 4, 4, 1)).astype(np.float32)
    np.savez(tmp_path / "data.npz", **{"train/images": rows, "test/images": rows + 100})
    golden = Golden(inputs={"images": np.concatenate([rows[:120], rows[:8] - 0.5])}, outputs={})
    return SimpleNamespace(directory=tmp_path, golden=golden, signature=image_classifier((4, 4, 1), 10))


def save(path: Path, nodes, weights):
    """A graph from `images` (batch, 4, 4, 1) to `logits` (batch, 10)."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 4, 4, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", [image], [logits], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def dense(path):
    weights = {"flat": np.array([-1, 16]), "kernel": RNG.normal(size=(16, 10)).astype(np.float32)}
    save(
        path,
        [helper.make_node("Reshape", ["images", "flat"], ["x"]), helper.make_node("MatMul", ["x", "kernel"], ["logits"])],
        weights,
    )


def convolution(path):
    weights = {"kernel": RNG.normal(size=(10, 1, 4, 4)).astype(np.float32), "flat": np.array([-1, 10])}
    nodes = [
        helper.make_node("Transpose", ["images"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel"], ["x"]),
        helper.make_node("Reshape", ["x", "flat"], ["logits"]),
    ]
    save(path, nodes, weights)


def answers(path, images):
    session = onnxruntime.InferenceSession(path)
    assert (session.get_inputs()[0].type, session.get_outputs()[0].type) == ("tensor(float)", "tensor(float)")
    return session.run(["logits"], {"images": images})[0]


@pytest.mark.parametrize("make", [dense, convolution])
@pytest.mark.parametrize(("convert", "share"), [(onnx_precision.to_float16, 0.002), (onnx_precision.to_int8, 0.03)])
def test_the_answers_are_near_and_the_weights_are_small(trained, tmp_path, make, convert, share):
    full, small = tmp_path / "full.onnx", tmp_path / "small.onnx"
    make(full)
    convert(full, small, trained)
    onnx.checker.check_model(str(small), full_check=True)
    images = trained.golden.inputs["images"]
    expected = answers(full, images)
    difference = np.abs(answers(small, images) - expected).max()
    assert 0 < difference < share * np.abs(expected).max()
    floats = [tensor for tensor in onnx.load(small).graph.initializer if tensor.data_type == TensorProto.FLOAT]
    assert all(np.prod(tensor.dims) <= 10 for tensor in floats)  # scales, one a channel


def test_a_convolution_has_fixed_ranges_and_a_dense_layer_those_of_the_batch(trained, tmp_path):
    kinds = []
    for make in (convolution, dense):
        make(tmp_path / "full.onnx")
        onnx_precision.to_int8(tmp_path / "full.onnx", tmp_path / "small.onnx", trained)
        kinds.append({node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node})
    assert "QuantizeLinear" in kinds[0]
    assert "DynamicQuantizeLinear" not in kinds[0]
    assert {"DynamicQuantizeLinear", "MatMulInteger"} <= kinds[1]


def test_ranges_come_from_training_rows_and_the_extremes_and_from_no_test_row(trained):
    batches = [batch["images"] for batch in onnx_precision.calibration_rows(trained)]
    assert [len(batch) for batch in batches] == [64, 64, 64, 64, 8]
    assert np.array_equal(batches[-1], trained.golden.inputs["images"][-8:])
    assert max(batch.max() for batch in batches) < 50


@pytest.mark.parametrize("convert", [onnx_precision.to_float16, onnx_precision.to_int8])
def test_a_model_without_weights_cannot_be_had(trained, tmp_path, convert):
    save(tmp_path / "full.onnx", [helper.make_node("Reshape", ["images", "flat"], ["logits"])], {"flat": np.array([-1, 10])})
    with pytest.raises(UnsupportedError, match="0% of the weights were converted"):
        convert(tmp_path / "full.onnx", tmp_path / "small.onnx", trained)
