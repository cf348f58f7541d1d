from __future__ import annotations

from typing import Any

from serving import tfs_stubs  # noqa: F401  lets the protos be imported without TensorFlow
from serving.embedded.freeze import _RESOURCES, _ops_like, restore_function_names


def graph(*functions: str, calls: tuple[str, ...] = ()) -> Any:
    from tensorflow.core.framework import graph_pb2

    made = graph_pb2.GraphDef()
    for name in functions:
        made.library.function.add().signature.name = name
    for index, name in enumerate(calls):
        node = made.node.add(name=f"call_{index}", op="StatefulPartitionedCall")
        node.attr["f"].func.name = name
        node.attr["branches"].list.func.add(name=name)
    made.node.add(name="direct", op=calls[0] if calls else "NoOp")
    return made


def names(made: Any) -> list[str]:
    return [function.signature.name for function in made.library.function]


def test_converted_functions_get_their_names_back_wherever_they_are_called() -> None:
    made = graph("serve_frozen_11", "restore_5", calls=("serve_frozen_11",))
    restore_function_names(made, ["serve_119", "restore_5"])
    assert names(made) == ["serve_119", "restore_5"]
    assert made.node[0].attr["f"].func.name == made.node[0].attr["branches"].list.func[0].name == "serve_119"
    assert made.node[1].op == "serve_119"


def test_functions_of_one_base_name_keep_their_order() -> None:
    made = graph("f_frozen_9", "f_frozen_10")
    restore_function_names(made, ["f_100", "f_20"])
    assert names(made) == ["f_20", "f_100"]


def test_what_cannot_be_told_apart_is_left() -> None:
    made = graph("f_frozen_9")
    restore_function_names(made, ["f_100", "f_20"])
    assert names(made) == ["f_frozen_9"]


def test_lists_of_tensors_are_values_and_no_resources() -> None:
    made = graph()
    for name in ("TensorListStack", "StackPushV2", "LookupTableFindV2"):
        made.node.add(name=name, op=name)
    assert _ops_like(made, _RESOURCES) == ["LookupTableFindV2", "StackPushV2"]
