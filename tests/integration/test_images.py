"""Encoded images in both servers: equal pixels in both frameworks, right answers on the wire, and refusals that stay alone."""

import base64
import dataclasses
import io
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from export import golden_images
from export.handlers import images as handler
from faceoff import endpoints, golden, images, manifest, processes, servables
from faceoff.signature import image_classifier
from faceoff.store import Store
from loadtest import measure, plan
from loadtest.options import Options
from serving.client import Client, RequestError
from tests.conftest import roots

SERVERS = ("torchserve", "tfserving-embedded")

# In TensorFlow's own process: the pixels by its operators, and what is said to be wrong with bad bytes.
IN_TENSORFLOW = """
import sys
import numpy as np, tensorflow as tf
from export import images_tf
data = np.load(sys.argv[1], allow_pickle=True)
found = {}
for name in [name for name in data.files if name[0].isdigit() and " " not in name]:
    shape = tuple(map(int, name.split("x")))
    pixels = tf.function(lambda rows: images_tf.pixels(rows, shape), input_signature=[tf.TensorSpec([None], tf.string)])
    found[name] = pixels(data[name]).numpy()
    found[name + " resized"] = tf.image.resize(data[name + " array"], shape[:2]).numpy()
said = []
for image in data["bad"]:
    try:
        said.append(str(pixels([image]).numpy()))
    except tf.errors.InvalidArgumentError as error:
        said.append(error.message.splitlines()[0])
np.savez(sys.argv[2], said=said, **found)
"""


def encoded(array, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


def bad_images(good):
    cmyk = io.BytesIO()
    Image.new("CMYK", (9, 9)).save(cmyk, "JPEG")
    return {
        "empty": b"",
        "text": b"no image at all",
        "truncated": good[:-30],
        "cmyk": cmyk.getvalue(),
        "bomb": encoded(np.zeros((5000, 4000), np.uint8)),
    }


def test_both_frameworks_read_the_same_pixels_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(1)
    shapes = [(8, 8, 1), (32, 32, 3), (60, 45, 3)]
    given, expected, resized = {"bad": None}, {}, {}
    for shape in shapes:
        name = "x".join(map(str, shape))
        drawn = golden_images.draw(rng.random((30, *shape), dtype=np.float32))
        rows = [*drawn["png"], *drawn["jpeg"]]
        for size in ((1, 1), (3, 500), (211, 97), (8, 8)):
            array = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            rows += [encoded(array), encoded(array, "JPEG", quality=85), encoded(array[..., 0].astype(np.uint16) * 251)]
        decoder = handler.Decoder(shape, **images.about(image_classifier(shape, 10)))
        given[name], expected[name] = images.rows(rows), np.stack([decoder.pixels(row) for row in rows])
        array = rng.integers(0, 256, (101, 37, shape[2]), dtype=np.uint8)
        given[f"{name} array"], resized[name] = array, handler.resize(array, *shape[:2])
    bad = bad_images(rows[0])
    given["bad"] = images.rows(list(bad.values()))
    np.savez(tmp_path / "given.npz", **given)
    command = [sys.executable, "-c", IN_TENSORFLOW, str(tmp_path / "given.npz"), str(tmp_path / "found.npz")]
    subprocess.run(command, cwd=processes.ROOT, env=processes.environment(), check=True, timeout=120, capture_output=True)
    import torch

    with np.load(tmp_path / "found.npz") as found:
        for name, pixels in expected.items():
            assert found[name].dtype == pixels.dtype
            assert np.array_equal(found[name], pixels), name
            # What people know by that name, whose weights are rounded otherwise; of values up to 255.
            assert np.abs(found[f"{name} resized"] - resized[name]).max() < 1e-2
            planes = torch.from_numpy(given[f"{name} array"]).permute(2, 0, 1)[np.newaxis].float()
            by_torch = torch.nn.functional.interpolate(planes, resized[name].shape[:2], mode="bilinear", align_corners=False)
            assert np.abs(by_torch[0].permute(1, 2, 0).numpy() - resized[name]).max() < 1e-2
        said = dict(zip(bad, found["said"].tolist(), strict=True))
    for name, words in {"empty": "not a PNG", "text": "not a PNG", "truncated": "Invalid PNG", "cmyk": "in CMYK"}.items():
        assert words in said[name]
    assert "the image has more than 16777216 pixels" in said["bomb"]


def test_an_archive_with_another_preprocessing_is_refused(run, exported, tmp_path):
    store = Store(artifacts=tmp_path / "artifacts", results=tmp_path / "results")
    shutil.copytree(exported.artifacts / "cnn", store.artifacts / "cnn")
    path = store.export_dir("cnn", 1) / "cnn.mar"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    source = members["images.py"].decode()
    members["images.py"] = source.replace(
        'image.convert("RGB")', 'Image.merge("RGB", image.convert("RGB").split()[::-1])'
    ).encode()
    assert members["images.py"].decode() != source
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    record = store.export_dir("cnn", 1) / "manifest.json"
    about = json.loads(record.read_text())
    about["files"]["cnn.mar"] = manifest.sha256(path)
    record.write_text(json.dumps(about))
    done = run("export.verify_mar", "--artifact", "torch-mar", *roots(store))
    assert (done.code, done.result["artifact"]["status"]) == (1, "refused")
    assert "batch of 1, encoding png: largest difference" in done.result["error"]


@pytest.fixture(scope="module")
def found(deployed):
    return {endpoint.server: endpoint for endpoint in endpoints.read(deployed, model="cnn")}


@pytest.fixture(scope="module")
def trained(deployed):
    return servables.read_trained(deployed, "cnn")


@pytest.fixture(scope="module")
def pictures(deployed, trained):
    return images.read(deployed.export_dir("cnn", 1), trained.signature)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_bad_image_is_refused_in_one_line_and_its_neighbours_are_answered(found, trained, pictures, server, protocol):
    good = pictures["png"]
    bad = bad_images(good.inputs["image_bytes"][0])

    def ask(number):
        rows = good.rows(number, 1)
        name = list(bad)[number // 2 % len(bad)]
        sent = rows.inputs if number % 2 else {"image_bytes": images.rows([*rows.inputs["image_bytes"], bad[name]])}
        with Client(found[server], trained.signature, protocol=protocol, encoding="png") as client:
            try:
                return golden.compare(client.predict(sent).outputs, rows.outputs, 1e-4).problem
            except RequestError as error:
                return str(error)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(20)))
    assert answers[1::2] == [None] * 10
    code = {("torchserve", "grpc"): "a refusal", ("tfserving-embedded", "grpc"): "gRPC INVALID_ARGUMENT"}
    for number, said in enumerate(answers[::2]):
        assert code.get((server, protocol), "HTTP 400") in said
        words = {"truncated": ["truncated", "Invalid PNG"], "cmyk": ["in CMYK"], "bomb": ["more than 16777216 pixels"]}
        assert any(word in said for word in words.get(list(bad)[number % len(bad)], ["not a PNG or JPEG image"])), said


def post(url, body, kind):
    request = urllib.request.Request(url, data=body, headers={"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_load_test_sends_images_and_judges_each_answer(deployed, tmp_path):
    options = Options(
        run="images",
        artifacts=deployed.artifacts,
        results=tmp_path,
        rest=0.0,
        scenarios="closed",
        encodings="png,jpeg",
    )
    made = plan.make(options)
    small = dataclasses.replace(made.profile, windows=1, requests_per_window=60, warmup_requests=10, max_window_repeats=0)
    measured = list(measure.run(dataclasses.replace(made, profile=small), tmp_path))
    ways = [f"{protocol}-{encoding}" for protocol in ("rest", "grpc") for encoding in ("png", "jpeg")]
    assert [m.id for m in measured] == [f"{server}-{way}-closed-1" for server in SERVERS for way in ways]
    for m in measured:
        assert m.rows.correct.tolist() == [1] * 60, m.id
        assert 1 < len(set(m.rows.payload.tolist())) <= m.rows.payload.max() + 1 <= images.NUM_OF_MODEL_SIZE


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_torchserve_takes_an_image_as_the_whole_body(found, pictures, encoding):
    rows = pictures[encoding].rows(0, 1)
    (image,) = rows.inputs["image_bytes"]
    url = f"{found['torchserve'].rest_url}/predictions/cnn/1"
    status, answer = post(url, image, f"image/{encoding}")
    assert status == 200
    assert np.allclose(answer["predictions"], rows.outputs["logits"], atol=1e-4)
    status, answer = post(url, image[:-25], f"image/{encoding}")
    assert (status, "row 0: the image" in answer["error"]) == (400, True)


def test_the_embedded_server_batches_images_and_says_what_it_takes(found):
    url = f"{found['tfserving-embedded'].rest_url}/v1/models/cnn"
    with urllib.request.urlopen(f"{url}/metadata", timeout=30) as answer:
        signatures = json.loads(answer.read())["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_image"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    body = {"instances": [{"b64": base64.b64encode(b"x").decode()}]}
    status, answer = post(f"{url}:predict", json.dumps(body).encode(), "application/json")
    assert (status, "error" in answer) == (400, True)  # numbers are asked for where no signature is named
