"""Lower precisions of a trained `cnn`: verified, their accuracy beside that of float32, refused when too coarse, served."""

import dataclasses
import json
import shutil
import zipfile

import numpy as np
import pytest

from experiment import facts, fairness
from export import formats
from faceoff import endpoints, manifest, presets, servables
from faceoff.errors import FaceoffError
from faceoff.store import Store
from serving import parity
from tests.conftest import roots

ROWS = ("torch-onnx", "torch-mar-bf16", "tf-savedmodel-bf16", "torch-onnx-int8")


@pytest.fixture(scope="module")
def lowered(run, exported, tmp_path_factory):
    """A store with rows of bf16 and int8 and one in float32 to stand beside them."""
    root = tmp_path_factory.mktemp("lowered")
    store = Store(artifacts=root / "artifacts", results=root / "results")
    shutil.copytree(exported.model_dir("cnn"), store.model_dir("cnn"), ignore=shutil.ignore_patterns("export"))
    done = run("export.export", "--formats", ",".join(ROWS), *roots(store))
    assert done.code == 0, done.stderr[-3000:]
    return store


@pytest.fixture
def copy(lowered, tmp_path):
    """A store of one's own to break."""
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    shutil.copytree(lowered.model_dir("cnn"), store.model_dir("cnn"))
    return store


def test_each_is_verified_and_its_accuracy_and_speed_stand_beside_those_of_float32(lowered):
    import onnxruntime

    record = manifest.read(lowered.verify_dir("cnn", 1), stage="verify", command="make verify")
    rows = {row["name"]: row for row in record.metrics["artifacts"]}
    assert sorted(rows) == sorted(ROWS)
    trained = manifest.read(lowered.model_dir("cnn"), stage="train", command="make train")
    with np.load(lowered.model_dir("cnn") / "data.npz") as data:
        images, targets = data["test/images"], data["test/targets"]
    for name, row in rows.items():
        assert row["status"] == "verified"
        assert row["precision"] == formats.BY_NAME[name].precision
        assert row["test_accuracy_float32"] == trained.metrics["served_accuracy"]["torch"]
        assert row["num_test_rows"] == len(targets)
        assert row["indicative_ms_per_row"] > 0
    assert rows["torch-onnx"]["max_abs_difference"] < 5e-5 < rows["torch-mar-bf16"]["max_abs_difference"]
    session = onnxruntime.InferenceSession(lowered.export_dir("cnn", 1) / "cnn_torch-int8.onnx")
    parts = [session.run(["logits"], {"images": images[start : start + 64]})[0] for start in range(0, len(images), 64)]
    right = np.concatenate(parts).argmax(1) == targets
    assert rows["torch-onnx-int8"]["test_accuracy"] == right.mean()


def test_a_lower_precision_is_smaller_and_is_what_it_says(lowered):
    import onnx
    import torch

    folder = lowered.export_dir("cnn", 1)
    weights = onnx.load(folder / "cnn_torch-int8.onnx").graph.initializer
    assert [len(tensor.dims) for tensor in weights if tensor.data_type == onnx.TensorProto.INT8].count(4) == 2  # convolutions
    assert (folder / "cnn_torch-int8.onnx").stat().st_size < 0.4 * (folder / "cnn_torch.onnx").stat().st_size
    with zipfile.ZipFile(folder / "cnn-bf16.mar") as archive, archive.open("weights.pt") as file:
        state = torch.load(file, weights_only=True)
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.bfloat16}


def plant(store, name, change):
    """Change one exported ONNX file as `change` says and let its hash fit, as a careless converter would."""
    import onnx

    directory = store.export_dir("cnn", 1)
    model = onnx.load(directory / name)
    change(model.graph)
    onnx.save(model, directory / name)
    record = json.loads((directory / "manifest.json").read_text())
    record["files"][name] = manifest.sha256(directory / name)
    (directory / "manifest.json").write_text(json.dumps(record))


def wrong_scale(graph):
    """The scales of the first convolution's channels a fifth too large."""
    from onnx import numpy_helper

    scale = next(tensor for tensor in graph.initializer if tensor.name.endswith("_scale") and tensor.dims == [32])
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.2), scale.name))


def test_a_wrong_scale_is_too_coarse_and_refused(run, copy):
    plant(copy, "cnn_torch-int8.onnx", wrong_scale)
    done = run("export.verify_onnx", "--artifact", "torch-onnx-int8", *roots(copy))
    assert (done.code, done.result["status"], done.result["artifact"]["status"]) == (1, "fault", "refused")
    assert "exceeds the tolerance" in done.result["error"]
    assert "reproduce: python -m export.verify_onnx --model cnn --version 1 --artifact torch-onnx-int8" in done.result["error"]


@pytest.mark.slow
def test_both_servers_serve_bf16_with_its_accuracy_and_speed_in_one_record(run, lowered, tmp_path):
    """Proven on the wire within its own tolerance, where float32's would have refused it; loaded; no equal of float32."""
    settings = tmp_path / "bf16.json"
    artifacts = {"torchserve": "eager-bf16", "tfserving-embedded": "saved_model-bf16"}
    settings.write_text(json.dumps({server: {"artifact": artifact} for server, artifact in artifacts.items()}))
    try:
        options = ("--servers", ",".join(artifacts), "--settings", str(settings), "--ports", "free")
        done = run("serving.deploy", *options, *roots(lowered))
        assert done.code == 0, done.stderr[-3000:]
        proof = json.loads((lowered.deploy_dir / "parity.json").read_text())
        verified = manifest.read(lowered.verify_dir("cnn", 1), stage="verify", command="make verify").metrics["artifacts"]
        tolerances = {row["format"]: row["tolerance"] for row in verified}
        trained = servables.read_trained(lowered, "cnn")
        wire = presets.model("cnn").tolerances.wire
        found = endpoints.read(lowered)
        assert {(e.server, e.artifact_format) for e in found} == {
            ("torchserve", "mar-eager-bf16"),
            ("tfserving-embedded", "saved_model-bf16"),
        }
        for endpoint in found:
            assert (endpoint.precision, endpoint.tolerance) == ("bf16", tolerances[endpoint.artifact_format])
            mine = [c for c in proof["checks"] if c["server"] == endpoint.server]
            assert {c["precision"] for c in mine} == {"bf16"}
            assert all(wire < c["max_abs_difference"] <= endpoint.tolerance for c in mine)
            with pytest.raises(FaceoffError, match="answers wrongly: largest difference"):
                parity.check([dataclasses.replace(endpoint, tolerance=wire)], trained.signature, trained.golden)
            served = facts.of(endpoint, trained, [], tmp_path)["precision"]
            assert served == {"served": "bf16", "lowered_by": {}}
            other = {"precision": {"served": "float32", "lowered_by": {}}}
            told = fairness.check("default", (endpoint.server, [{"precision": served}]), ("another", [other]))
            assert [f.verdict for f in told if f.name == "precision"] == ["differs"]
        assert len(proof["test_sets"]) == 4
        for c in proof["test_sets"]:
            assert c["accuracy"] >= 0.99 * c["trained_accuracy"] and c["num_rows"] == 360
        loaded = run("loadtest.run", "--scenarios", "closed", "--rest", "0", "--run", "bf16", *roots(lowered))
        assert loaded.code in {0, 3}, loaded.stderr[-3000:]  # whether the machine was quiet is not this test's to say
        summary = json.loads((lowered.results / "bf16" / "summary.json").read_text())
        assert len(summary["measurements"]) == 4
        for m in summary["measurements"]:
            assert (m["precision"], m["answers_judged"], m["num_wrong"]) == ("bf16", True, 0)
            assert m["id"].startswith(f"{m['server']}-bf16-")
        assert run("report.build", "--run", "bf16", *roots(lowered)).code == 0
        page = (lowered.results / "bf16" / "report.md").read_text()
        assert "TorchServe (bf16) against tfserving-embedded (bf16)" in page
        assert "The servers computed in different precisions" not in page
    finally:
        run("serving.undeploy", *roots(lowered))
