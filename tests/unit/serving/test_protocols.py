import base64
import dataclasses
import io
import json

import numpy as np
import pytest

from faceoff import images
from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError
from faceoff.signature import Signature, TensorSpec, image_classifier, image_generator, token_classifier
from serving.codecs import DecodeError
from serving.protocols import codec

SIGNATURE = image_classifier((2, 2, 1), 3)
ROWS = {"images": np.array([0.1, 1 / 3, -2.5e-7, 1e6] * 2, np.float32).reshape(2, 2, 2, 1)}
LOGITS = np.array([[0.25, -1.5, 3.0], [1e-7, 2.0, 16777216.0]], np.float32)


def endpoint(server):
    return Endpoint(
        server=server,
        model="cnn",
        version=3,
        rest_url="http://127.0.0.1:8080",
        grpc_target="127.0.0.1:7070",
        metrics_url=None,
        device="cpu",
        settings={},
        artifact_format="x",
        precision="float32",
        tolerance=1e-4,
        implementation="x",
        export_sha256="0",
    )


def test_both_servers_get_the_byte_identical_json_body():
    bodies = {codec(endpoint(s), SIGNATURE, "rest").encode(ROWS) for s in ("torchserve", "tfserving", "tfserving-embedded")}
    assert len(bodies) == 1
    sent = np.asarray(json.loads(bodies.pop())["instances"], np.float32)
    assert np.array_equal(sent, ROWS["images"])


def test_routes_name_the_version():
    assert codec(endpoint("torchserve"), SIGNATURE, "rest").route.path == "/predictions/cnn/3"
    assert codec(endpoint("tfserving-embedded"), SIGNATURE, "rest").route.path == "/v1/models/cnn/versions/3:predict"
    route = codec(endpoint("torchserve"), SIGNATURE, "grpc").route
    assert (route.target, route.path) == (
        "127.0.0.1:7070",
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
    )


def test_json_answers_are_read_strictly():
    rest = codec(endpoint("tfserving-embedded"), SIGNATURE, "rest")
    body = json.dumps({"predictions": LOGITS.tolist()}).encode()
    assert np.array_equal(rest.decode(body, 2)["logits"], LOGITS)
    for wrong in (b"{}", b"[", b'{"predictions": [[1, 2, 3]]}', b'{"predictions": [["a", "b", "c"], [1, 2, 3]]}', b"[1]"):
        with pytest.raises(DecodeError):
            rest.decode(wrong, 2)


def numbers(dtype):
    """A model whose one output is two numbers a row."""
    return Signature(inputs=SIGNATURE.inputs, outputs=(TensorSpec(name="y", dtype=dtype, shape=(2,)),))


@pytest.mark.parametrize(
    ("dtype", "row", "words"),
    [
        ("float32", '["1.5", 2]', "'y' holds values of type <U"),
        ("float32", "[true, false]", "'y' holds values of type bool, expected float32"),
        ("float32", "[null, 1.0]", "'y' holds values of type object"),
        ("float32", "[1.0]", r"'y' has shape \(1, 1\)"),
        ("float32", '{"y": [1.0, 2.0]}', "'y' holds values of type object"),
        ("float32", "[[1.0], 2.0]", "not a predictions document"),
        ("int32", "[1.7, 2]", "'y' holds values of type float64, expected int32"),
        ("int32", "[NaN, 2]", "'y' holds values of type float64, expected int32"),
        ("int32", "[1, 2147483648]", "'y' holds values beyond int32"),
    ],
)
def test_values_of_another_kind_are_not_made_into_numbers(dtype, row, words):
    with pytest.raises(DecodeError, match=words):
        codec(endpoint("tfserving"), numbers(dtype), "rest").decode(b'{"predictions": [%s]}' % row.encode(), 1)


@pytest.mark.parametrize(
    ("dtype", "row", "values"),
    [
        ("float32", "[1, 2.5]", [1.0, 2.5]),
        ("float32", "[-0.0, 3]", [-0.0, 3.0]),
        ("float32", "[NaN, -Infinity]", [np.nan, -np.inf]),
        ("int64", "[1, -9007199254740993]", [1, -9007199254740993]),
    ],
)
def test_numbers_are_read_as_the_servers_write_them(dtype, row, values):
    rest = codec(endpoint("tfserving"), numbers(dtype), "rest")
    found = rest.decode(b'{"predictions": [%s]}' % row.encode(), 1)["y"]
    assert found.dtype == np.dtype(dtype)
    assert found.tobytes() == np.array([values], dtype).tobytes()


def test_several_inputs_and_outputs_go_as_one_object_a_row():
    spec = {"dtype": "int32", "shape": (2,)}
    both = Signature(
        inputs=(TensorSpec(name="ids", **spec), TensorSpec(name="mask", **spec)),
        outputs=(TensorSpec(name="a", dtype="float32", shape=()), TensorSpec(name="b", dtype="float32", shape=(1,))),
    )
    rest = codec(endpoint("tfserving"), both, "rest")
    inputs = {"ids": np.array([[1, 2]], np.int32), "mask": np.array([[1, 0]], np.int32)}
    assert json.loads(rest.encode(inputs)) == {"instances": [{"ids": [1, 2], "mask": [1, 0]}]}
    outputs = rest.decode(b'{"predictions": [{"a": 1.5, "b": [2.5]}]}', 1)
    assert outputs["a"].tolist() == [1.5]
    assert outputs["b"].tolist() == [[2.5]]
    for wrong, words in {
        '{"a": 1.5, "b": [2.5]}, {"a": 1.5, "b": [2.5]}': r"'a' has shape \(2,\), expected \(1,\)",
        '{"a": 1.5, "b": [2.5, 3.5]}': r"'b' has shape \(1, 2\)",
        '{"a": 1.5, "b": [2.5], "c": 1}': r"a row of \['a', 'b', 'c'\], expected \['a', 'b'\]",
        '{"a": 1.5}': r"a row of \['a'\], expected",
        "{}": r"a row of \[\], expected",
        "1.5": "a row of float, expected",
        '{"a": "1.5", "b": [2.5]}': "'a' holds values of type <U",
    }.items():
        with pytest.raises(DecodeError, match=words):
            rest.decode(b'{"predictions": [%s]}' % wrong.encode(), 1)


def test_raw_and_npy_are_the_bytes_of_the_rows():
    raw = codec(endpoint("torchserve"), SIGNATURE, "rest", "raw")
    assert raw.encode(ROWS) == ROWS["images"].tobytes()
    assert raw.route.content_type == "application/octet-stream"
    assert np.array_equal(raw.decode(LOGITS.tobytes(), 2)["logits"], LOGITS)
    npy = codec(endpoint("torchserve"), SIGNATURE, "rest", "npy")
    assert np.array_equal(np.load(io.BytesIO(npy.encode(ROWS))), ROWS["images"])
    for wrong in (b"", b"12345", LOGITS.tobytes() * 2):
        with pytest.raises(DecodeError):
            raw.decode(wrong, 2)
        with pytest.raises(DecodeError):
            npy.decode(wrong, 2)


def test_torchserve_grpc_carries_the_raw_bytes():
    from serving.torchserve.stubs import inference_pb2

    grpc = codec(endpoint("torchserve"), SIGNATURE, "grpc")
    request = inference_pb2().PredictionsRequest.FromString(grpc.encode(ROWS))
    assert (request.model_name, request.model_version) == ("cnn", "3")
    assert request.input["data"] == ROWS["images"].tobytes()
    answer = inference_pb2().PredictionResponse(prediction=LOGITS.tobytes()).SerializeToString()
    assert np.array_equal(grpc.decode(answer, 2)["logits"], LOGITS)
    with pytest.raises(DecodeError):
        grpc.decode(b"\xff\xff\xff", 2)
    refusal = b'{"error": "busy"}       '
    assert len(refusal) == LOGITS.nbytes
    with pytest.raises(DecodeError, match=r"a refusal: .*busy"):
        grpc.decode(inference_pb2().PredictionResponse(prediction=refusal).SerializeToString(), 2)


def response(**changes):
    from serving import tfs_stubs as tfs

    answer = tfs.predict_pb2.PredictResponse()
    tensor = answer.outputs[changes.pop("name", "logits")]
    tensor.dtype = changes.pop("dtype", tfs.types_pb2.DT_FLOAT)
    for size in changes.pop("shape", LOGITS.shape):
        tensor.tensor_shape.dim.add(size=size)
    if changes.pop("typed", False):
        tensor.float_val.extend(changes.pop("values", LOGITS.ravel()))
    else:
        tensor.tensor_content = LOGITS.tobytes()
    return answer.SerializeToString()


@pytest.mark.parametrize("typed", [True, False])
def test_tf_serving_grpc_reads_typed_fields_and_tensor_content(typed):
    from serving import tfs_stubs as tfs

    grpc = codec(endpoint("tfserving"), SIGNATURE, "grpc")
    request = tfs.predict_pb2.PredictRequest.FromString(grpc.encode(ROWS))
    assert (request.model_spec.name, request.model_spec.version.value) == ("cnn", 3)
    assert request.inputs["images"].tensor_content == ROWS["images"].tobytes()
    assert np.array_equal(grpc.decode(response(typed=typed), 2)["logits"], LOGITS)


@pytest.mark.parametrize(
    "changes", [{"name": "output_0"}, {"dtype": 2}, {"shape": (3, 2)}, {"typed": True, "values": [1.0]}, {"shape": (1, 3)}]
)
def test_tf_serving_grpc_refuses_what_the_signature_does_not_promise(changes):
    with pytest.raises(DecodeError):
        codec(endpoint("tfserving"), SIGNATURE, "grpc").decode(response(**changes), 2)


def test_tf_serving_grpc_takes_typed_lists():
    from serving import tfs_stubs as tfs

    grpc = codec(endpoint("tfserving"), SIGNATURE, "grpc", "float_val")
    tensor = tfs.predict_pb2.PredictRequest.FromString(grpc.encode(ROWS)).inputs["images"]
    assert tensor.tensor_content == b""
    assert np.array_equal(np.array(tensor.float_val, np.float32).reshape(ROWS["images"].shape), ROWS["images"])
    assert np.array_equal(grpc.decode(response(typed=True), 2)["logits"], LOGITS)


def test_base64_is_the_bytes_of_each_row():
    rest = codec(endpoint("torchserve"), SIGNATURE, "rest", "b64")
    rows = json.loads(rest.encode(ROWS))["instances"]
    assert [base64.b64decode(row["b64"]) for row in rows] == [row.tobytes() for row in ROWS["images"]]
    assert rest.route.content_type == "application/json"
    assert np.array_equal(rest.decode(json.dumps({"predictions": LOGITS.tolist()}).encode(), 2)["logits"], LOGITS)
    with pytest.raises(UsageError, match=r"takes no encoding 'b64' over rest \(in its JSON .* is a string tensor"):
        codec(endpoint("tfserving"), SIGNATURE, "rest", "b64")


@pytest.mark.parametrize("encoding", ["b64", "npy"])
def test_an_encoding_of_one_array_is_not_for_a_model_of_two(encoding):
    with pytest.raises(UsageError, match=rf"'cnn' cannot be said in encoding '{encoding}': it is .'ids', 'mask'. to .'logits'."):
        codec(endpoint("torchserve"), token_classifier((4,), 3), "rest", encoding)


def test_an_encoding_a_server_does_not_take_is_a_mistake():
    with pytest.raises(UsageError, match="takes no encoding 'raw' over rest"):
        codec(endpoint("tfserving-embedded"), SIGNATURE, "rest", "raw")
    with pytest.raises(UsageError, match="unknown protocol 'soap'"):
        codec(endpoint("torchserve"), SIGNATURE, "soap")


def test_the_codec_does_not_depend_on_where_the_server_is():
    moved = dataclasses.replace(endpoint("torchserve"), rest_url="http://127.0.0.1:9")
    assert codec(moved, SIGNATURE, "rest").route.target == "127.0.0.1:9"


def taking_images(server):
    form = "mar-eager" if server == "torchserve" else "saved_model"
    return dataclasses.replace(endpoint(server), artifact_format=form)


IMAGES = {"image_bytes": images.rows([b"\x89PNG one", b"\xff\xd8 two"])}


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_both_servers_get_the_byte_identical_json_of_images(encoding):
    found = [codec(taking_images(s), SIGNATURE, "rest", encoding) for s in ("torchserve", "tfserving", "tfserving-embedded")]
    (body,) = {one.encode(IMAGES) for one in found}
    document = json.loads(body)
    assert document["signature_name"] == "serving_image"
    assert [base64.b64decode(row["b64"]) for row in document["instances"]] == IMAGES["image_bytes"].tolist()
    assert {one.route.content_type for one in found} == {"application/json"}
    answer = json.dumps({"predictions": LOGITS.tolist()}).encode()
    assert all(np.array_equal(one.decode(answer, 2)["logits"], LOGITS) for one in found)


def test_images_over_grpc_are_a_string_tensor_or_parts_of_the_map():
    from serving import tfs_stubs as tfs
    from serving.torchserve.stubs import inference_pb2

    grpc = codec(taking_images("tfserving"), SIGNATURE, "grpc", "png")
    request = tfs.predict_pb2.PredictRequest.FromString(grpc.encode(IMAGES))
    tensor = request.inputs["image_bytes"]
    assert (request.model_spec.signature_name, tensor.dtype) == ("serving_image", tfs.types_pb2.DT_STRING)
    assert [dim.size for dim in tensor.tensor_shape.dim] == [2]
    assert list(tensor.string_val) == IMAGES["image_bytes"].tolist()
    assert np.array_equal(grpc.decode(response(), 2)["logits"], LOGITS)
    grpc = codec(taking_images("torchserve"), SIGNATURE, "grpc", "png")
    parts = inference_pb2().PredictionsRequest.FromString(grpc.encode(IMAGES)).input
    assert [parts["image_0"], parts["image_1"]] == IMAGES["image_bytes"].tolist()
    refusal = inference_pb2().PredictionResponse(prediction=b'{"error": "row 1: not an image"}').SerializeToString()
    with pytest.raises(DecodeError, match=r"a refusal: .*row 1: not an image"):
        grpc.decode(refusal, 2)


def test_images_for_a_model_or_an_artifact_without_them_are_a_mistake():
    with pytest.raises(UsageError, match=r"'cnn' takes no encoding 'png': its inputs are .'noise'., expected one of images"):
        codec(taking_images("torchserve"), image_generator((32,), (8, 8, 1)), "rest", "png")
    with pytest.raises(UsageError, match="onnxruntime takes no encoding 'jpeg': it serves 'onnx', which decodes no images"):
        codec(dataclasses.replace(endpoint("onnxruntime"), artifact_format="onnx"), SIGNATURE, "grpc", "jpeg")
