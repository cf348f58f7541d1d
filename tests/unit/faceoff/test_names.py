"""Our flat top-level names must belong to nobody else, and every stage must stay light."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

OURS = {"faceoff", "training", "export", "serving", "loadtest", "experiment", "report", "k8s", "presets", "benchmarks"}
COMMANDS = [
    "training.train",
    "training.all",
    "training.train_torch",
    "training.train_tf",
    "training.compare_layers",
    "training.compare_layers_torch",
    "training.compare_layers_tf",
    "training.distributed_torch",
    "training.distributed_tf",
    "training.board",
    "export.export",
    "export.verify",
    "export.setup_formats",
    "export.export_torch",
    "export.export_tf",
    "export.export_executorch",
    "export.reference_torch",
    "export.verify_mar",
    "export.verify_onnx",
    "export.verify_tf",
    "export.verify_tflite",
    "export.verify_executorch",
    "serving.deploy",
    "serving.undeploy",
    "serving.status",
    "serving.predict",
    "serving.embedded",
    "loadtest.run",
    "loadtest.calibrate",
    "loadtest.selftest",
    "loadtest.bench",
    "loadtest.ui",
    "experiment.demo",
    "experiment.compare",
    "report.build",
]


def test_no_installed_distribution_owns_one_of_our_names():
    owners = importlib.metadata.packages_distributions()
    assert {name: owners[name] for name in OURS & owners.keys()} == {}


def test_no_module_is_named_like_a_standard_module_or_a_dependency():
    # Locust puts loadtest/ first on sys.path, so a module there shadows whatever has its name.
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    assert sorted(path.stem for path in (ROOT / "loadtest").glob("*.py") if path.stem in taken) == []


@pytest.mark.parametrize("module", COMMANDS)
def test_help_needs_no_framework(module):
    code = (
        "import json, runpy, sys\n"
        f"sys.argv = [{module!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = ('torch', 'tensorflow', 'onnxruntime', 'sklearn', 'scipy', 'pyarrow', 'plotly', 'locust', 'grpc')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "usage: python -m " in done.stdout
    assert json.loads(done.stdout.strip().splitlines()[-1]) == []
