"""Version folders of the smallest ONNX model: for tests of a server in which no model is tested."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def save_times(folder: Path, factor: float) -> None:
    """`y` = `x` * factor, float32 (batch, 2), in a version folder that appears whole."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "y"))
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "made", [x], [y], [constant])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    staging = folder.parent.parent / "staging"
    staging.mkdir()
    onnx.save(made, staging / "model.onnx")
    folder.parent.mkdir(exist_ok=True)
    staging.rename(folder)
