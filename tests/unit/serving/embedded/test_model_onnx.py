"""ONNX models behind the API, on models made here."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from serving.embedded import model_onnx
from serving.embedded.errors import Code, ServingError
from serving.embedded.loading import LoadOptions


def saved(folder: Path, nodes, inputs, outputs) -> Path:
    """A version folder with one model of these nodes."""
    graph = helper.make_graph(nodes, "made", inputs, outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder.mkdir(exist_ok=True)
    onnx.save(made, folder / "model.onnx")
    return folder


def doubling(folder: Path) -> Path:
    """`twice` = `x` + `x`; the batch is dynamic."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "twice"))
    return saved(folder, [helper.make_node("Add", ["x", "x"], ["twice"])], [x], [y])


def test_a_model_answers_by_its_own_names(tmp_path: Path) -> None:
    model = model_onnx.load("m", 2, doubling(tmp_path), LoadOptions(intra_op_threads=1))
    signature = model.signatures["serving_default"]
    assert (model.name, model.version, signature.feed_order, signature.output_order) == ("m", 2, ("x",), ("twice",))
    assert (signature.inputs["x"].shape, signature.inputs["x"].dtype.name) == ((-1, 3), "float")
    assert signature.proto.outputs["twice"].tensor_shape.dim[1].size == 3
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    (found,) = model.run(signature, [rows], ("twice",))
    np.testing.assert_array_equal(found, 2 * rows)
    assert model.max_natural_batch(signature) == 64
    model.close()


def test_rows_that_influence_each_other_are_not_batched(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y"))
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    nodes = [
        helper.make_node("Constant", [], ["axes"], value=axes),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    model = model_onnx.load("m", 1, saved(tmp_path, nodes, [x], [y]), LoadOptions(intra_op_threads=1))
    assert model.max_natural_batch(model.signatures["serving_default"]) == 1


def test_what_the_engine_objects_to_is_said_in_one_line(tmp_path: Path) -> None:
    model = model_onnx.load("m", 1, doubling(tmp_path), LoadOptions(warm_up=False))
    with pytest.raises(ServingError) as refused:
        model.run(model.signatures["serving_default"], [np.zeros((2, 4), np.float32)], ("twice",))
    assert refused.value.code == Code.INVALID_ARGUMENT
    assert "Got: 4 Expected: 3" in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(("content", "code"), [(None, Code.NOT_FOUND), (b"not a model", Code.DATA_LOSS)])
def test_a_folder_without_a_model_or_with_a_broken_one_does_not_load(tmp_path: Path, content: bytes | None, code: Code) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ServingError) as refused:
        model_onnx.load("m", 1, tmp_path, LoadOptions())
    assert refused.value.code == code


def test_a_type_that_has_no_tensor_here_is_unimplemented(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.BFLOAT16, ["batch"]) for name in ("x", "y"))
    folder = saved(tmp_path, [helper.make_node("Identity", ["x"], ["y"])], [x], [y])
    with pytest.raises(ServingError) as refused:
        model_onnx.load("m", 1, folder, LoadOptions())
    assert refused.value.code == Code.UNIMPLEMENTED
