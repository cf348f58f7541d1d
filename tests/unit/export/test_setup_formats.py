"""What pip would do decides whether an environment of a format is made; nothing is installed to find out."""

import subprocess

from export.setup_formats import resolver_message, why_not

CONFLICT = """Collecting tensorflow
    The user requested tensorflow==2.21.0
    tensorflowjs 4.22.0 depends on tensorflow<3 and >=2.13.0
    tensorflow-decision-forests 1.12.0 depends on tensorflow==2.19.0
    The user requested tensorflow==2.21.0
To fix this you could try to:
ERROR: ResolutionImpossible: for help visit https://pip.pypa.io
"""


def pip(code, stdout="", stderr=""):
    return subprocess.CompletedProcess([], code, stdout, stderr)


def test_a_conflict_is_told_in_the_resolvers_words_each_once():
    said = why_not(pip(1, stdout=CONFLICT))
    assert said.startswith("The user requested tensorflow==2.21.0; tensorflowjs 4.22.0 depends on")
    assert "tensorflow-decision-forests 1.12.0 depends on tensorflow==2.19.0" in said
    assert said.count("The user requested") == 1
    assert "\n" not in said


def test_a_cuda_build_is_not_fetched():
    assert "TORCH_INDEX" in why_not(pip(0, "Would install torch-2.13.0 nvidia-cublas-cu12-12.6.4.1 triton-3.3.0\n"))


def test_what_reads_gpus_is_no_cuda_build():
    assert why_not(pip(0, "Would install nvidia-ml-py-13.615.71 torch-2.13.0+cpu\n")) is None


def test_silence_is_told_too():
    assert resolver_message("") == "pip could not resolve it"
