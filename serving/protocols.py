"""What goes over the wire: one codec (serving/codecs.py) for each server API, protocol and encoding.

| server API            | protocol | encoding          | request                                    | answer                  |
|-----------------------|----------|-------------------|--------------------------------------------|-------------------------|
| both                  | rest     | json              | `{"instances": [...]}`, byte-identical     | `{"predictions": [...]}`|
| both                  | rest     | png, jpeg         | the same of `{"b64": image}`, by signature | `{"predictions": [...]}`|
| torchserve            | rest     | b64               | `{"instances": [{"b64": raw of a row}]}`   | `{"predictions": [...]}`|
| torchserve            | rest     | raw               | little-endian bytes of every input         | the same of the outputs |
| torchserve            | rest     | npy               | .npy of the one input                      | .npy                    |
| torchserve            | grpc     | tensor            | PredictionsRequest.input["data"] = raw     | prediction = raw        |
| torchserve            | grpc     | png, jpeg         | PredictionsRequest.input["image_0"], …     | prediction = raw        |
| tfserving (any)       | grpc     | tensor            | PredictRequest with `tensor_content`       | PredictResponse         |
| tfserving (any)       | grpc     | float_val         | PredictRequest with typed lists            | PredictResponse         |
| tfserving (any)       | grpc     | png, jpeg         | PredictRequest with `string_val`           | PredictResponse         |

In TF Serving's JSON `{"b64": ...}` is the value of a string tensor, so a model of numbers has no base64 there. Encoded images
go to a signature of their own (faceoff/images.py), whose rows are the bytes of an image each.

Versions are always named, so that neither server looks one up.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from faceoff import images
from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError, unknown
from faceoff.signature import Signature
from serving.codecs import (
    Base64Rest,
    Codec,
    ImageRest,
    JsonRest,
    NpyRest,
    RawRest,
    Route,
    TfServingGrpc,
    TfServingTypedGrpc,
    TorchServeGrpc,
    TorchServeImageGrpc,
)

PROTOCOLS = ("rest", "grpc")
DEFAULT_ENCODING = {"rest": "json", "grpc": "tensor"}

_TORCHSERVE: dict[tuple[str, str], type[Codec]] = {
    ("rest", "json"): JsonRest,
    ("rest", "b64"): Base64Rest,
    ("rest", "raw"): RawRest,
    ("rest", "npy"): NpyRest,
    ("grpc", "tensor"): TorchServeGrpc,
    **dict.fromkeys((("rest", encoding) for encoding in images.ENCODINGS), ImageRest),
    **dict.fromkeys((("grpc", encoding) for encoding in images.ENCODINGS), TorchServeImageGrpc),
}
_TFSERVING: dict[tuple[str, str], type[Codec]] = {
    ("rest", "json"): JsonRest,
    ("grpc", "tensor"): TfServingGrpc,
    ("grpc", "float_val"): TfServingTypedGrpc,
    **dict.fromkeys((("rest", encoding) for encoding in images.ENCODINGS), ImageRest),
    **dict.fromkeys((("grpc", encoding) for encoding in images.ENCODINGS), TfServingTypedGrpc),
}
_NOT_IN_TFSERVING = {"b64": ' (in its JSON {"b64": ...} is a string tensor, and this model takes numbers)'}
ENCODINGS = tuple(dict.fromkeys(encoding for _, encoding in (*_TORCHSERVE, *_TFSERVING)))
_OF_PROTOCOL = {*_TORCHSERVE, *_TFSERVING}


def spoken(protocol: str, encoding: str) -> bool:
    """Whether any server takes this encoding over this protocol."""
    return (protocol, encoding) in _OF_PROTOCOL


def encodings(endpoint: Endpoint, signature: Signature) -> list[tuple[str, str]]:
    """(protocol, encoding) pairs that the endpoint's server takes for this model."""
    pictures = images.variant(signature) is not None and images.decoded_by(endpoint.artifact_format)
    kinds = _kinds(endpoint).items()
    return [pair for pair, kind in kinds if (pictures if pair[1] in images.ENCODINGS else kind.says(signature))]


def codec(endpoint: Endpoint, signature: Signature, protocol: str, encoding: str | None = None) -> Codec:
    """The codec for `endpoint`; `encoding` defaults to the one both servers speak. Raises UsageError.

    `signature` is the model's; the codec of encoded images has the variant of it that takes them.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, list(PROTOCOLS), "PROTOCOLS")
    encoding = encoding or DEFAULT_ENCODING[protocol]
    torchserve = endpoint.server == "torchserve"
    kinds = _kinds(endpoint)
    kind = kinds.get((protocol, encoding))
    if kind is None:
        known = [e for p, e in kinds if p == protocol]
        why = "" if torchserve else _NOT_IN_TFSERVING.get(encoding, "")
        raise UsageError(f"{endpoint.server} takes no encoding {encoding!r} over {protocol}{why}: expected one of {known}")
    if encoding in images.ENCODINGS:
        signature = _of_images(endpoint, signature, encoding)
    elif not kind.says(signature):
        names = f"{[spec.name for spec in signature.inputs]} to {[spec.name for spec in signature.outputs]}"
        raise UsageError(f"{endpoint.model!r} cannot be said in encoding {encoding!r}: it is {names}, expected a single one")
    route = _route(endpoint, protocol, encoding, torchserve=torchserve)
    return kind(route=route, encoding=encoding, signature=signature, model=endpoint.model, version=endpoint.version)


def _kinds(endpoint: Endpoint) -> dict[tuple[str, str], type[Codec]]:
    return _TORCHSERVE if endpoint.server == "torchserve" else _TFSERVING


def _of_images(endpoint: Endpoint, signature: Signature, encoding: str) -> Signature:
    found = images.variant(signature)
    if found is None:
        names = [spec.name for spec in signature.inputs]
        raise UsageError(f"{endpoint.model!r} takes no encoding {encoding!r}: its inputs are {names}, expected one of images")
    if not images.decoded_by(endpoint.artifact_format):
        form = endpoint.artifact_format
        raise UsageError(f"{endpoint.server} takes no encoding {encoding!r}: it serves {form!r}, which decodes no images")
    return found


def _route(endpoint: Endpoint, protocol: str, encoding: str, *, torchserve: bool) -> Route:
    model, version = endpoint.model, endpoint.version
    if protocol == "grpc":
        if torchserve:
            from serving.torchserve.stubs import PREDICTIONS as method
        else:
            from serving.tfs_stubs import PREDICT as method
        return Route(protocol="grpc", target=endpoint.grpc_target, path=method)
    path = f"/predictions/{model}/{version}" if torchserve else f"/v1/models/{model}/versions/{version}:predict"
    content_type = "application/octet-stream" if encoding in ("raw", "npy") else "application/json"
    return Route(protocol="rest", target=urlsplit(endpoint.rest_url).netloc, path=path, content_type=content_type)
