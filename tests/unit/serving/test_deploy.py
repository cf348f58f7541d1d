"""serving.deploy: how far the answers of a served model may be from the golden outputs, and what it and its like refuse."""

import json
from types import SimpleNamespace

import pytest

from faceoff import presets, servables
from serving import bench, deploy, examples
from tests.unit.faceoff.test_servables import ROWS, two_precisions

WIRE = presets.model("cnn").tolerances.wire
TRAINED = SimpleNamespace(manifest=SimpleNamespace(model="cnn"), signature=None)


@pytest.mark.parametrize(("row", "tolerance"), [(ROWS[0], WIRE), (ROWS[1], 0.47)])
def test_the_tolerance_is_the_wires_or_the_wider_one_of_a_lower_precision(tmp_path, row, tolerance):
    _, form, path, precision, verified_within = row
    found = deploy.served(two_precisions(tmp_path), TRAINED, form, 1)
    assert (found.artifact.name, found.precision, found.tolerance) == (path, precision, tolerance)
    assert verified_within <= tolerance


def refused(capsys, tmp_path, *options: str) -> str:
    """What deploy refuses, from an empty store; it has a line on stderr and the error of the JSON line."""
    roots = ("--artifacts", str(tmp_path / "artifacts"), "--results", str(tmp_path / "results"))
    assert deploy.main(["--servers", "torchserve", *options, *roots]) == 2
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    return json.loads(printed.out)["error"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--labels", "a=1,a=2", "--version", "1,2"], "LABELS=a=1,a=2: found 'a' twice, expected each once"),
        (["--ports", "torchserve-rest=8080,torchserve-rest=8081"], "found 'torchserve-rest' twice, expected each once"),
        (["--ports", "nowhere=8080"], "PORTS=nowhere=8080: found 'nowhere'"),
    ],
)
def test_labels_and_ports_are_checked_before_an_earlier_deploy_is_stopped(tmp_path, capsys, options, words):
    assert words in refused(capsys, tmp_path, *options)
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("command", [bench, examples])
def test_an_unknown_model_is_called_so(tmp_path, capsys, command):
    assert command.main(["--model", "nope", "--artifacts", str(tmp_path)]) == 2
    assert "unknown model 'nope': expected one of" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_examples_go_into_a_folder(tmp_path, capsys, monkeypatch, out):
    (tmp_path / "file").touch()
    rows = SimpleNamespace(rows=lambda first, count: SimpleNamespace(inputs={}))
    monkeypatch.setattr(servables, "read_trained", lambda store, model: SimpleNamespace(golden=rows))
    assert examples.main(["--out", str(tmp_path / out), "--artifacts", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert f"--out {tmp_path / out}: " in json.loads(printed.out)["error"]
    assert len(printed.err.splitlines()) == 1
