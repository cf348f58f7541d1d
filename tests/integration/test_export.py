"""Every export is verified by its own runtime; what was changed afterwards, by accident or not, is refused."""

import json
import shutil

import numpy as np
import pytest

from export import check, verify_mar, verify_onnx
from faceoff import manifest, servables
from faceoff.golden import Golden
from faceoff.signature import token_classifier
from faceoff.store import Store
from tests.conftest import roots


@pytest.fixture
def copy(exported, tmp_path):
    """A store of one's own to break."""
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    shutil.copytree(exported.artifacts / "cnn", store.artifacts / "cnn")
    return store


def rehash(store):
    """Make the export manifest fit its files again, as an attacker or a careless tool would."""
    directory = store.export_dir("cnn", 1)
    data = json.loads((directory / "manifest.json").read_text())
    data["files"] = {name: manifest.sha256(directory / name) for name in data["files"]}
    (directory / "manifest.json").write_text(json.dumps(data))


def test_four_artifacts_are_verified_at_four_batch_sizes(exported):
    record = manifest.read(exported.verify_dir("cnn", 1), stage="verify", command="make verify")
    artifacts = {item["name"]: item for item in record.metrics["artifacts"]}
    assert sorted(artifacts) == ["tf-onnx", "tf-savedmodel", "torch-mar", "torch-onnx"]
    for item in artifacts.values():
        assert item["status"] == "verified"
        encodings = [None] if item["name"].endswith("onnx") else [None, "png", "jpeg"]
        assert [(row["encoding"], row["batch_size"]) for row in item["checks"]] == [
            (encoding, size) for encoding in encodings for size in (1, 2, 17, 64)
        ]
        assert item["max_abs_difference"] <= item["tolerance"]
        assert item["reproduce"].startswith("python -m export.verify_")


@pytest.mark.parametrize("name", ["cnn.mar", "cnn_torch.onnx", "cnn_tf.onnx", "saved_model/1/saved_model.pb"])
def test_one_flipped_byte_is_refused_before_anything_is_loaded(run, copy, name):
    path = copy.export_dir("cnn", 1) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = run("export.verify", *roots(copy))
    assert (done.code, done.result["status"]) == (2, "usage")
    assert f"{name} is not what export wrote: sha256" in done.result["error"]
    if name in ("cnn.mar", "saved_model/1/saved_model.pb"):
        server = "torchserve" if name == "cnn.mar" else "tfserving-embedded"
        done = run("serving.deploy", "--ports", "free", "--servers", server, *roots(copy))
        assert (done.code, done.result["status"]) == (2, "usage")
        assert "sha256" in done.result["error"]
        assert not (copy.artifacts / "endpoints.json").exists()


def rewrite(store, change):
    """Change the torch ONNX file as `change` says, and let its hash fit."""
    import onnx

    path = store.export_dir("cnn", 1) / "cnn_torch.onnx"
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    rehash(store)


def perturb(graph):
    from onnx import numpy_helper

    kernel = next(tensor for tensor in graph.initializer if len(tensor.dims) == 4)
    values = numpy_helper.to_array(kernel).copy()
    values.flat[5] += 1e-3
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))


def turn(graph):
    """Rows and columns of the image exchanged: of the same shape, since images are square."""
    from onnx import helper

    for node in graph.node:
        node.input[:] = ["turned" if name == "images" else name for name in node.input]
    graph.node.insert(0, helper.make_node("Transpose", ["images"], ["turned"], perm=[0, 2, 1, 3]))


def rename(graph):
    graph.input[0].name = "pictures"
    for node in graph.node:
        node.input[:] = ["pictures" if name == "images" else name for name in node.input]


@pytest.mark.parametrize(
    ("change", "words"), [(perturb, "exceeds the tolerance"), (turn, "exceeds the tolerance"), (rename, "expected {'images'")]
)
def test_a_perturbed_weight_a_wrong_layout_and_a_wrong_name_are_refused(run, copy, change, words):
    rewrite(copy, change)
    done = run("export.verify_onnx", "--artifact", "torch-onnx", *roots(copy))
    assert (done.code, done.result["status"], done.result["artifact"]["status"]) == (1, "fault", "refused")
    assert words in done.result["error"]
    assert "reproduce: python -m export.verify_onnx --model cnn --version 1 --artifact torch-onnx" in done.result["error"]


def test_one_refused_artifact_is_a_fault_and_the_others_keep_their_verdicts(run, copy):
    rewrite(copy, perturb)
    done = run("export.verify", *roots(copy))
    assert (done.code, done.result["status"]) == (1, "fault")
    assert "torch-onnx" in done.result["error"]
    assert "tolerance 5e-05" in done.result["error"]
    statuses = {item["name"]: item["status"] for item in done.result["artifacts"]}
    assert statuses == {"torch-mar": "verified", "torch-onnx": "refused", "tf-savedmodel": "verified", "tf-onnx": "verified"}


@pytest.mark.parametrize(("minuend", "subtrahend", "refused"), [("ids", "mask", False), ("mask", "ids", True)])
def test_two_inputs_that_changed_names_are_refused_although_names_types_and_shapes_fit(tmp_path, minuend, subtrahend, refused):
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Sub", [minuend, subtrahend], ["less"]),
        helper.make_node("Cast", ["less"], ["logits"], to=TensorProto.FLOAT),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "length"]) for name in ("ids", "mask")]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length"])
    path = tmp_path / "model.onnx"
    graph = helper.make_graph(nodes, "difference", inputs, [output])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    rng = np.random.default_rng(0)
    rows = {name: rng.integers(0, 9, (20, 4), dtype=np.int32) for name in ("ids", "mask")}
    trained = servables.Trained(
        directory=tmp_path,
        manifest=manifest.Manifest(stage="train", model="transformer", created=""),
        signature=token_classifier((4,), 4),
        golden=Golden(inputs=rows, outputs={"logits": (rows["ids"] - rows["mask"]).astype(np.float32)}),
    )
    servable = servables.Servable(name="torch-onnx", source="torch", format="onnx", path="x", size_bytes=1, export_s=0.0)
    _, predict = verify_onnx.load(path, trained)
    about = check.Check(servable=servable, trained=trained, tolerance=1e-5, reproduce="python -m x")
    if refused:
        with pytest.raises(check.RefusedError, match="exceeds the tolerance"):
            check.run(about, predict, [])
    else:
        assert check.run(about, predict, [])["artifact"]["status"] == "verified"


def test_the_same_checkpoint_gives_the_same_bytes(run, exported, tmp_path):
    """What is not: docs/decisions/0010-exports.md."""
    folders = []
    for name in ("one", "two"):
        out = tmp_path / name
        done = run("export.export_torch", "--out", str(out), "--only", "torch-mar,torch-mar-torchscript", *roots(exported))
        assert done.code == 0, done.stderr[-2000:]
        folders.append(out)
    for path in sorted(folders[0].iterdir()):
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


def test_what_was_refused_or_not_verified_is_not_deployed(run, copy):
    shutil.rmtree(copy.verify_dir("cnn", 1))
    done = run("serving.deploy", "--ports", "free", *roots(copy))
    assert (done.code, "run: make verify" in done.result["error"]) == (2, True)
    shutil.rmtree(copy.export_dir("cnn", 1))
    done = run("serving.deploy", "--ports", "free", *roots(copy))
    assert (done.code, "run: make export" in done.result["error"]) == (2, True)
    shutil.rmtree(copy.model_dir("cnn"))
    done = run("serving.deploy", "--ports", "free", *roots(copy))
    assert (done.code, "run: make train" in done.result["error"]) == (2, True)
    assert not (copy.artifacts / "endpoints.json").exists()


def test_an_export_of_another_training_is_refused(run, copy):
    path = copy.model_dir("cnn") / "manifest.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "created": "later"}))
    done = run("export.verify", *roots(copy))
    assert (done.code, "another training" in done.result["error"]) == (2, True)


def test_export_before_train_names_the_command(run, tmp_path):
    done = run("export.export", "--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r"))
    assert (done.code, "run: make train MODEL=cnn" in done.result["error"]) == (2, True)
    assert list(tmp_path.iterdir()) == []


class Statuses:
    """What TorchServe's front end would be told about one request."""

    def __init__(self):
        self.code, self.headers = 200, {}

    def report_status(self, code, reason_phrase=None):
        self.code = code

    def add_response_property(self, key, value):
        self.headers[key] = value


# TorchServe's package leaves the file open that holds its version.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning")
def test_one_bad_row_gets_its_400_and_its_neighbours_their_answers(exported, tmp_path):
    import zipfile

    archive = exported.export_dir("cnn", 1) / "cnn.mar"
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    record = json.loads((tmp_path / "MAR-INF" / "MANIFEST.json").read_text())
    handler, context = verify_mar.initialize(tmp_path, record)
    statuses = [Statuses() for _ in range(5)]
    context.request_processor = statuses
    images = np.load(exported.model_dir("cnn") / "golden" / "inputs.npz")["images"]
    expected = np.load(exported.model_dir("cnn") / "golden" / "outputs.npz")["logits"]
    answers = handler.handle(
        [
            {"body": images[:2].tobytes()},
            {"body": b"seven b"},
            {"data": images[2:3].tobytes()},
            {"body": {"instances": "nonsense"}},
            {"body": {"instances": images[3:5].tolist()}},
        ],
        context,
    )
    assert [status.code for status in statuses] == [200, 400, 200, 400, 200]
    assert np.allclose(np.frombuffer(answers[0], np.float32).reshape(2, 10), expected[:2], atol=5e-5)
    assert np.allclose(np.frombuffer(answers[2], np.float32).reshape(1, 10), expected[2:3], atol=5e-5)
    assert np.allclose(json.loads(answers[4])["predictions"], expected[3:5], atol=5e-5)
    assert "not whole rows" in json.loads(answers[1])["error"]
