"""Variables into constants: about half the cost of a call (docs/decisions/0003-embedded-server.md)."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

log = logging.getLogger(__name__)

_VARIABLES = ("VarHandleOp", "VariableV2")
_RESOURCES = (*_VARIABLES, "Table", "Iterator", "Queue", "Barrier", "Mutex", "Stack", "ReaderV2", "BoostedTrees")
_RENAMED = re.compile(r"(.+)_frozen_(\d+)")
_NUMBERED = re.compile(r"(.+)_(\d+)")


def frozen_graph(session: Any, nodes: list[str]) -> Any:
    """A GraphDef without variables that holds `nodes`, or None where there is nothing to freeze or resources remain.

    `session` has the initialised variables. Raises whatever TensorFlow's converter raises.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_from_session_graph

    graph = session.graph.as_graph_def()
    if not _ops_like(graph, _VARIABLES):
        return None
    names = [function.signature.name for function in graph.library.function]
    constant = convert_variables_to_constants_from_session_graph(session, graph, nodes)
    left = _ops_like(constant, _RESOURCES)
    if left:
        log.info("Not frozen, served with its variables: it uses %s", ", ".join(left))
        return None
    restore_function_names(constant, names)
    return constant


def _ops_like(graph: Any, parts: tuple[str, ...]) -> list[str]:
    found = {node.op for node in _all_nodes(graph) if any(part in node.op for part in parts)}
    return sorted(op for op in found if not op.startswith("TensorList"))  # values, like TensorListStack: no resources


def _all_nodes(graph: Any) -> Iterable[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def restore_function_names(graph: Any, originals: Iterable[str]) -> None:
    """Give converted functions their own names again, because in-graph errors show them to clients.

    The converter turns `serve_119` into `serve_frozen_11`, numbering functions of one base name in their order. Names
    that cannot be told apart by that are left.
    """
    kept = {function.signature.name for function in graph.library.function}
    wanted: dict[str, list[tuple[int, str]]] = defaultdict(list)
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in originals:
        if name not in kept and (match := _NUMBERED.fullmatch(name)):
            wanted[match[1]].append((int(match[2]), name))
    for name in kept:
        if match := _RENAMED.fullmatch(name):
            found[match[1]].append((int(match[2]), name))
    names = {
        new: old
        for base, renamed in found.items()
        if len(renamed) == len(wanted[base])
        for (_, new), (_, old) in zip(sorted(renamed), sorted(wanted[base]), strict=True)
    }
    for function in graph.library.function:
        function.signature.name = names.get(function.signature.name, function.signature.name)
    for gradient in graph.library.gradient:
        gradient.function_name = names.get(gradient.function_name, gradient.function_name)
        gradient.gradient_func = names.get(gradient.gradient_func, gradient.gradient_func)
    for node in _all_nodes(graph):
        node.op = names.get(node.op, node.op)
        for attribute in node.attr.values():
            for function in (attribute.func, *attribute.list.func) if attribute.WhichOneof("value") in ("func", "list") else ():
                if function.name in names:
                    function.name = names[function.name]
