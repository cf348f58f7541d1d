"""Which encodings are proven, and how often: all that the load suite can measure."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from faceoff import golden
from faceoff.endpoints import nowhere
from faceoff.errors import UsageError
from faceoff.golden import Golden
from faceoff.signature import Signature, TensorSpec, image_classifier, token_classifier
from serving import parity, protocols

SIGNATURE = image_classifier((2, 2, 1), 3)
FLOATS = TensorSpec(name="a", dtype="float32", shape=(2,))
TWO_OUTPUTS = Signature(inputs=(FLOATS,), outputs=(replace(FLOATS, name="b"), replace(FLOATS, name="c")))


def spoken(endpoint, signature):
    """What can be measured: `loadtest` asks `codec` for each."""
    found = set()
    for protocol in protocols.PROTOCOLS:
        for encoding in protocols.ENCODINGS:
            try:
                protocols.codec(endpoint, signature, protocol, encoding)
            except UsageError:
                continue
            found.add((protocol, encoding))
    return found


@pytest.mark.parametrize("form", ["mar-eager", "saved_model", "onnx"])
@pytest.mark.parametrize("server", ["torchserve", "tfserving", "tfserving-embedded", "onnxruntime"])
@pytest.mark.parametrize("signature", [SIGNATURE, token_classifier((4,), 3), TWO_OUTPUTS], ids=["images", "tokens", "two"])
def test_all_that_can_be_measured_is_proven_and_nothing_else(server, form, signature):
    endpoint = nowhere(server, "cnn", 1, form)
    assert set(protocols.encodings(endpoint, signature)) == spoken(endpoint, signature)


def test_base64_and_typed_lists_are_among_them():
    assert ("rest", "b64") in protocols.encodings(nowhere("torchserve", "cnn", 1), SIGNATURE)
    assert ("grpc", "float_val") in protocols.encodings(nowhere("tfserving", "cnn", 1), SIGNATURE)
    assert ("rest", "b64") not in protocols.encodings(nowhere("torchserve", "bert", 1), token_classifier((4,), 3))


def test_what_differs_in_the_request_alone_goes_alone_and_in_the_largest_batch(monkeypatch):
    num_rows = golden.BATCH_SIZES[-1]
    inputs = {"images": np.arange(num_rows * 4, dtype=np.float32).reshape(num_rows, 2, 2, 1)}
    expected = Golden(inputs=inputs, outputs={"logits": np.ones((num_rows, 3), np.float32)})
    sent = set()

    def client(endpoint, signature, *, protocol, encoding):
        def predict(asked):
            sent.update((encoding, float(row[0, 0, 0])) for row in asked["images"])
            return SimpleNamespace(outputs={"logits": np.ones((len(asked["images"]), 3), np.float32)})

        coder = SimpleNamespace(route=SimpleNamespace(protocol=protocol), encoding=encoding)
        return nullcontext(SimpleNamespace(endpoint=endpoint, codec=coder, predict=predict))

    async def at_once(*about):
        return 0.0

    monkeypatch.setattr(parity, "Client", client)
    monkeypatch.setattr(parity, "_all_at_once", at_once)
    records = parity.check([nowhere("torchserve", "cnn", 1), nowhere("tfserving", "cnn", 1)], SIGNATURE, expected)
    for encoding in ("json", "tensor", "b64", "float_val"):
        shapes = {(r["batch_size"], r["concurrent"]) for r in records if r["encoding"] == encoding}
        whole = {(size, 1) for size in golden.BATCH_SIZES} | {(max(parity.ROWS), parity.CONNECTIONS)}
        assert shapes == ({(1, 1), (num_rows, 1)} if encoding in parity.REQUEST_ONLY else whole)
        assert len({row for told, row in sent if told == encoding}) == num_rows
    few = parity.check([nowhere("torchserve", "cnn", 1)], SIGNATURE, expected, encodings=["npy"])
    assert {r["encoding"] for r in few} == {"json", "tensor", "npy"}  # the usual ones are always proven
