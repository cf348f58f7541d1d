"""Paired files mirror each other: the same functions in the same order, so that a diff shows only the frameworks."""

import ast
import re

import pytest

from faceoff import presets
from tests.conftest import ROOT

# Differences that are the frameworks': torch needs a layout change and a class, Keras its threads and devices.
ONLY = {"cast", "configure_threads", "use_device", "_endpoint", "flat_layers"}
ONLY |= {"to_neutral", "from_neutral", "_attributes", "_swap_gates", "_freeze_second_bias"}


def functions(path):
    body = ast.parse((ROOT / path).read_text()).body
    # A layer or model is a class in torch and mostly a function in Keras: Cnn is cnn's pair.
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = [re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", node.name).lower() for node in body if isinstance(node, kinds)]
    return [name for name in names if name not in ONLY]


PAIRS = [f"training/{presets.model(name).module}" for name in presets.MODELS]


@pytest.mark.parametrize(
    "stem",
    [
        *dict.fromkeys(PAIRS),
        "training/layers",
        "training/losses",
        "training/weights",
        "training/compare_layers",
        "training/train",
        "training/evaluate",
        "training/optim",
        "training/step",
        "training/native",
        "training/distributed",
        "export/export",
    ],
)
def test_pairs_have_the_same_functions_in_the_same_order(stem):
    torch, tf = functions(f"{stem}_torch.py"), functions(f"{stem}_tf.py")
    if stem == "export/export":  # the forms of a model are each framework's own
        shared = set(torch) & set(tf)
        torch, tf = ([name for name in names if name in shared] for names in (torch, tf))
        assert {"export", "export_onnx", "main"} <= shared
    assert torch == tf


@pytest.mark.parametrize("stage", ["faceoff", "training", "export", "serving", "loadtest", "experiment", "report"])
def test_no_file_of_one_framework_names_the_other(stage):
    for path in (ROOT / stage).rglob("*.py"):
        if "generated" in path.parts:
            continue
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                imported.add(node.module.split(".")[0])
        assert not {"torch", "tensorflow"} <= imported, path
        if path.stem.endswith("_torch"):
            assert not imported & {"tensorflow", "keras"}, path
        if path.stem.endswith("_tf"):
            assert "torch" not in imported, path
        if stage in ("loadtest", "experiment", "report", "faceoff"):
            assert not imported & {"torch", "tensorflow", "keras"}, path
