"""predict_fast beside protobuf: whatever bytes come, known or not, a template reads what `Parsed` would.

Templates that have learned from all earlier requests read each next one; the ordinary path has none. Whole answers, over
both transports and against a server that never learns, are compared in test_transports.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from serving import tfs_stubs as tfs
from serving.embedded import predict_fast, tensors
from serving.embedded.api import Api
from serving.embedded.batcher import NaturalBatcher
from serving.embedded.config import ModelConfig
from serving.embedded.directory import Directory, Known, Served
from serving.embedded.errors import Code, ServingError
from serving.embedded.grpc_service import GrpcApi, _parsed, answered
from serving.embedded.predict_fast import Parsed, Templates
from serving.embedded.signature import TensorInfo
from tests.unit.serving.embedded.fakemodel import FakeModel, signature

DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 10: "?", 4: "u1", 19: "<f2", 8: "<c8"}


def request(rng: np.random.Generator) -> bytes:
    """A Predict request, mostly of one tensor in `tensor_content`."""
    message = tfs.predict_pb2.PredictRequest()
    spec = message.model_spec
    spec.name = str(rng.choice(["m", "m", "model" * 40, "\u4e2d"]))
    choice = rng.random()
    if choice < 0.2:
        spec.version.value = int(rng.choice([0, 3, 300]))
    elif choice < 0.4:
        spec.version_label = str(rng.choice(["stable", "canary"]))
    spec.signature_name = str(rng.choice(["", "serving_default", "other"]))
    for alias in rng.choice(["x", "images", "ids"], size=rng.choice([1, 1, 1, 1, 1, 0, 2]), replace=False):
        number = int(rng.choice([*DTYPES, 1, 1, 1, 1, 1, 7]))
        shape = [int(size) for size in rng.choice([0, 1, 2, 3, 40], size=rng.choice([0, 1, 2, 3]))]
        tensor = message.inputs[str(alias)]
        tensor.dtype = number
        tensor.tensor_shape.SetInParent()
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
        if rng.random() < 0.05:
            tensor.tensor_shape.dim.add(size=int(rng.choice([1, -1, 5])), name="n")
        count = int(np.prod(shape)) + int(rng.choice([0] * 20 + [1, -1]))
        tensor.tensor_content = rng.bytes(max(0, count) * np.dtype(DTYPES.get(number, "u1")).itemsize)
        if rng.random() < 0.05:
            tensor.float_val.append(1)
        if rng.random() < 0.05:
            tensor.version_number = 1
    if rng.random() < 0.1:
        message.output_filter.append("y")
    return bytes(message.SerializeToString())


def varied(rng: np.random.Generator, data: bytes) -> bytes:
    """The same head with other content; or anything that only looks like it."""
    kind = rng.choice(["content", "content", "content", "bytes", "head", "length", "order", "unknown", "twice", "same"])
    half = rng.integers(0, len(data) + 1)
    if kind == "content":
        tail = min(len(data), int(rng.choice([1, 4, 8])))
        return data[: len(data) - tail] + rng.bytes(tail)
    if kind in ("bytes", "head"):
        changed = bytearray(data)
        for _ in range(rng.integers(1, 3)):
            at = int(rng.integers(0, min(len(changed), 60 if kind == "head" else len(changed)) + 1))
            changed[at : at + 1] = rng.bytes(1)
        return bytes(changed)
    if kind == "length":
        return data[:half] if rng.random() < 0.5 else data + rng.bytes(int(rng.integers(1, 9)))
    if kind == "order":  # the inputs before the model
        message = tfs.predict_pb2.PredictRequest.FromString(data)
        spec = tensors.field(b"\x0a", message.model_spec.SerializeToString())
        message.ClearField("model_spec")
        return bytes(message.SerializeToString()) + spec
    if kind == "unknown":
        return data + tensors.field(b"\x22", data[half:]) if rng.random() < 0.5 else tensors.field(b"\x7a", b"?") + data
    return data + data if kind == "twice" else data


def read(templates: Templates, data: bytes) -> tuple[str, object]:
    """How a request is read, as GrpcApi.predict reads it, and what comes of it."""
    known = templates.find(data)
    try:
        found = known or _parsed(data)
        inputs = found.inputs(data)
    except DecodeError:
        return "undecodable", None
    except ServingError as error:
        return "refused", (error.code, error.message)
    if isinstance(found, Parsed):
        templates.learn(data, found, inputs)
    arrays = {alias: (array.dtype.str, array.shape, array.tobytes()) for alias, array in inputs.items()}
    meaning = (found.spec, sorted(found.aliases), list(found.output_filter), sorted(arrays.items()))
    return "known" if known else "ordinary", meaning


def test_generated_requests_mean_the_same_with_and_without_templates() -> None:
    rng = np.random.default_rng(11)
    templates = Templates()
    whole = [request(rng)]
    seen: Counter[str] = Counter()
    for _ in range(8000):
        if rng.random() < 0.2:
            whole = [*whole[-30:], request(rng)]
        data = varied(rng, whole[rng.integers(len(whole))])
        how, meaning = read(templates, data)
        plainly, expected = read(Templates(), data)
        assert meaning == expected, data
        assert (how == plainly) or (how, plainly) == ("known", "ordinary"), data
        seen[how] += 1
    assert min(seen["known"], seen["ordinary"], seen["undecodable"], seen["refused"]) > 200, seen


def one(content: bytes, *, name: str = "m", dtype: int = 1, shape: tuple[int, ...] = (2,)) -> bytes:
    """A request of one tensor."""
    message = tfs.predict_pb2.PredictRequest()
    message.model_spec.name = name
    tensor = message.inputs["x"]
    tensor.dtype = dtype
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = content
    return bytes(message.SerializeToString())


def test_a_second_request_of_the_same_head_is_known_and_its_array_is_its_own() -> None:
    templates = Templates()
    first, second = (one(np.array(values, "f4").tobytes()) for values in ([1, 2], [3, 4]))
    assert read(templates, first)[0] == "ordinary"
    known = templates.find(second)
    assert known is not None
    (array,) = known.inputs(second).values()
    assert array.tolist() == [3, 4]
    assert array.flags.aligned
    assert templates.find(first) is known


@pytest.mark.parametrize(
    "data",
    [
        one(b"", shape=(0,)),  # no content: nothing, or values in a list
        one(b"", shape=(2,)),
        one(b"\x01\x02abb", dtype=7),  # what strings mean depends on their content
        one(b"\0" * 8) + tensors.field(b"\x1a", b"y"),  # an output filter comes after it
        one(b"\0" * 8) + tensors.field(b"\x22", b"\0" * 8),  # an unknown field that ends in the same bytes
        one(b"\0" * 8, name="m" * 2000),
    ],
)
def test_what_is_not_learned(data: bytes) -> None:
    templates = Templates()
    assert read(templates, data)[0] == "ordinary"
    assert templates.find(data) is None


def test_templates_are_bounded_and_the_length_used_last_stays() -> None:
    templates = Templates()
    kept = one(b"\0" * 8)
    read(templates, kept)
    for rows in range(3, 3 * predict_fast.MAX_LENGTHS):
        read(templates, one(b"\0" * 4 * rows, shape=(rows,)))
        assert templates.find(kept) is not None
    assert templates.find(one(b"\0" * 12, shape=(3,))) is None
    for number in range(100, 100 + 3 * predict_fast.MAX_OF_LENGTH):
        read(templates, one(b"\0" * 8, name=str(number)))
    assert len(templates._of_length) <= predict_fast.MAX_LENGTHS
    assert max(map(len, templates._of_length.values())) <= predict_fast.MAX_OF_LENGTH
    assert templates.find(one(b"\0" * 8, name=str(99 + 3 * predict_fast.MAX_OF_LENGTH))) is not None


def test_a_known_head_asks_the_models_of_this_moment() -> None:
    def told(answer: tuple[int, str, bytes | None]) -> object:
        code, details, message = answer
        return tfs.predict_pb2.PredictResponse.FromString(message).model_spec.version.value if message else (Code(code), details)

    async def main() -> None:
        directory = Directory()
        service = GrpcApi(Api(manager=directory))
        message = tfs.predict_pb2.PredictRequest.FromString(one(np.array([1, 2], "f4").tobytes()))
        heads = [bytes(message.SerializeToString())]
        message.model_spec.version_label = "stable"
        heads.append(bytes(message.SerializeToString()))
        message.model_spec.version.value = 3
        heads.append(bytes(message.SerializeToString()))

        def now(model: FakeModel | None, labels: dict[str, int]) -> None:
            served = {model.version: Served(model=model, batcher=NaturalBatcher(model, executor))} if model else {}
            directory._models["m"] = Known(config=ModelConfig(name="m", base_path="/m", labels=labels), served=served)

        async def asked() -> list[object]:
            return [told(await answered(service.methods[tfs.PREDICT], data)) for data in heads]

        now(FakeModel("m", 3), {"stable": 3})
        assert await asked() == await asked() == [3, 3, 3]
        assert all(map(service._templates.find, heads))
        now(FakeModel("m", 4), {"stable": 4})
        gone = (Code.NOT_FOUND, "Servable not found for request: Specific(m, 3)")
        assert await asked() == [4, 4, gone]
        now(FakeModel("m", 3), {})
        assert await asked() == [3, (Code.INVALID_ARGUMENT, "Unrecognized servable version label: stable"), 3]
        other = FakeModel("m", 3)
        other.signatures = {"serving_default": signature(x=TensorInfo(tensor="x:0", dtype_number=3, shape=(-1,)))}
        now(other, {"stable": 3})
        assert await asked() == [(Code.INVALID_ARGUMENT, "Expects arg[0] to be int32 but float is provided")] * 3
        other.signatures = {"serving_default": signature(z=TensorInfo(tensor="z:0", dtype_number=1, shape=(-1,)))}
        assert all("Signature input alias: z(" in details for _, details in await asked())  # type: ignore[misc]
        now(None, {"stable": 3})
        assert await asked() == [(Code.NOT_FOUND, "Servable not found for request: Latest(m)"), gone, gone]

    with ThreadPoolExecutor(2) as executor:
        asyncio.run(main())
