"""The same checkpoint gives the same bytes: what converters write that says when, where or in which order is taken out.

Zip files get one time for every member; ONNX files lose the record of the source lines they came from, which holds
paths of the machine. Writers also run with a fixed PYTHONHASHSEED (export.export). What stays different from run to
run, and why, is in docs/decisions/0010-exports.md.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can say


def zip_members(path: Path, *, compress: bool = False, replace: dict[str, bytes] | None = None) -> None:
    """Write a zip file again with its members in the order of their names, at one time and with one mode.

    `replace` has new contents for some members. Uncompressed members stay so (`compress=False`): torch maps them.
    """
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist() if not name.endswith(("/", ".pyc"))}
    with zipfile.ZipFile(path, "w", method) as new:
        for name, data in sorted((members | (replace or {})).items()):
            member = zipfile.ZipInfo(name, EPOCH)
            member.compress_type, member.external_attr = method, 0o644 << 16
            new.writestr(member, data)


def onnx_file(path: Path) -> None:
    """Write an ONNX file again without metadata of its nodes and values, which names source files of the exporter."""
    import onnx

    model = onnx.load(str(path))
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
            graphs += [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
        for value in [*getattr(graph, "value_info", ()), *graph.input, *graph.output, *getattr(graph, "initializer", ())]:
            if hasattr(value, "metadata_props"):
                del value.metadata_props[:]
    path.write_bytes(model.SerializeToString(deterministic=True))
