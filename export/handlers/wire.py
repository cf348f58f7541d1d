"""Bytes to rows and rows to bytes, inside a TorchServe worker. Packed into every .mar; imports nothing of ours.

| request body                                        | answer                 |
|-----------------------------------------------------|------------------------|
| {"instances": [...]}                                | {"predictions": [...]} |
| {"instances": [{"b64": ...}]}                       | {"predictions": [...]} |
| the same with "signature_name": "serving_image"     | {"predictions": [...]} |
| a PNG or a JPEG                                     | {"predictions": [...]} |
| parts image_0, image_1, … (the map of a gRPC call)  | little-endian raw      |
| .npy (format 1 to 3, no pickle)                     | .npy                   |
| anything else: little-endian raw                    | little-endian raw      |

Several inputs or outputs: in JSON a row is an object of them by name; raw, one comes after the other in the signature's
order, each with all its rows; .npy takes one of each; `b64` is the raw bytes of a row of the only input, or an encoded image
where that signature is named. `inputs` and `outputs` are the signature's: name, dtype, shape of a row and `dynamic`, the axes
of a row whose size may differ (raw bytes do not say it, so there it may not). `decoder` is images.Decoder of a model that takes
images.
"""

import base64
import io
import json
import math

import numpy as np

_BYTES = (bytes, bytearray, memoryview)


class BadRequestError(ValueError):
    """One request that cannot be answered; its neighbours in the batch can."""


def parse(row, inputs, outputs, decoder=None):
    """One request of TorchServe's batch to (kind, {name: array (rows, *shape)}). Raises BadRequestError.

    TorchServe gives the body under "data" (gRPC, multipart) or "body" (REST), decoded already where the
    content type says JSON.
    """
    if decoder and "image_0" in row:
        return "raw", _from_images([row[name] for name in _image_names(row)], inputs, decoder)
    body = row.get("data")
    body = row.get("body") if body is None else body
    if body is None or (isinstance(body, (*_BYTES, str)) and len(body) == 0):
        raise BadRequestError("the request has no body")
    if isinstance(body, str):
        body = body.encode(errors="surrogatepass")  # JSON can say half a character
    if isinstance(body, (dict, list)):
        return "json", _from_document(body, inputs, decoder)
    if not isinstance(body, _BYTES):  # bytes(256) would be 256 zeros: a row
        raise BadRequestError('expected a JSON object with "instances"')
    body = bytes(body)
    if decoder and decoder.begins(body):
        return "json", _from_images([body], inputs, decoder)
    if body.startswith(b"\x93NUMPY"):
        if len(inputs) != 1 or len(outputs) != 1:
            raise BadRequestError(f"a .npy holds one array, the model has {_names(inputs + outputs)}: send raw bytes or JSON")
        return "npy", {inputs[0]["name"]: _check(_from_npy(body), inputs[0])}
    if body.lstrip()[:1] in (b"{", b"[") and _is_json(body):
        return "json", _from_document(json.loads(body), inputs, decoder)
    return "raw", _from_raw(body, inputs)


def render(kind, outputs):
    """Named outputs (rows, *shape) to the body of one answer, in the format of the request."""
    arrays = list(outputs.values())
    if kind == "json" and len(arrays) == 1:
        return '{"predictions": ' + _numbers(arrays[0]) + "}"
    if kind == "json":
        rows = (", ".join(f'"{name}": {_numbers(array[i])}' for name, array in outputs.items()) for i in range(len(arrays[0])))
        return '{"predictions": [{' + "}, {".join(rows) + "}]}"
    if kind == "npy":
        buffer = io.BytesIO()
        np.save(buffer, arrays[0], allow_pickle=False)
        return buffer.getvalue()
    return b"".join(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes() for array in arrays)


def error_body(message):
    """The body of a refused request, as TF Serving writes it."""
    return json.dumps({"error": message})


def _is_json(body):
    # Raw floats may begin with 0x7b or 0x5b: only what reads as JSON is JSON.
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _from_document(document, specs, decoder):
    if not isinstance(document, dict) or "instances" not in document:
        raise BadRequestError('expected a JSON object with "instances"')
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise BadRequestError('"instances" must be a list of at least one row')
    if decoder and document.get("signature_name") == decoder.signature_name:
        if not all(isinstance(row, dict) and list(row) == ["b64"] for row in instances):
            raise BadRequestError('rows of images are {"b64": ...}, PNG or JPEG in base64')
        return _from_images(_decoded([row["b64"] for row in instances]), specs, decoder)
    if len(specs) == 1 and all(isinstance(row, dict) and list(row) == ["b64"] for row in instances):
        return _from_base64([row["b64"] for row in instances], specs)
    if not isinstance(instances[0], dict):
        if len(specs) != 1:
            raise BadRequestError(f"expected an object of {_names(specs)} in each row")
        return {specs[0]["name"]: _from_numbers(instances, specs[0])}
    names = _names(specs)
    if any(not isinstance(row, dict) or sorted(row) != sorted(names) for row in instances):
        raise BadRequestError(f"expected an object of {names} in each row")
    return {spec["name"]: _from_numbers([row[spec["name"]] for row in instances], spec) for spec in specs}


def _from_images(encoded, specs, decoder):
    rows = []
    for number, data in enumerate(encoded):
        if not isinstance(data, _BYTES):  # a part that says that it is JSON or text
            raise BadRequestError(f"row {number}: expected the bytes of an image")
        try:
            rows.append(decoder.pixels(data))
        except ValueError as error:
            raise BadRequestError(f"row {number}: {error}") from None
    return {specs[0]["name"]: np.stack(rows)}


def _image_names(row):
    names = [f"image_{number}" for number in range(sum(name.startswith("image_") for name in row))]
    if any(name not in row for name in names):
        raise BadRequestError(f"found the parts {sorted(row)}, expected image_0 to image_{len(names) - 1}")
    return names


def _decoded(rows):
    try:
        return [base64.b64decode(row, validate=True) for row in rows]
    except (TypeError, ValueError):
        raise BadRequestError('{"b64": ...} is not base64') from None


def _from_base64(rows, specs):
    parts = _decoded(rows)
    if len({len(part) for part in parts}) > 1:
        raise BadRequestError('rows of {"b64": ...} have different sizes')
    found = _from_raw(b"".join(parts), specs)
    return {name: _one_each(array, len(rows)) for name, array in found.items()}


def _one_each(array, num_rows):
    if len(array) != num_rows:
        raise BadRequestError(f'{num_rows} rows of {{"b64": ...}} hold {len(array)} rows')
    return array


def _from_numbers(values, spec):
    dtype = np.dtype(spec["dtype"])
    try:
        array = np.asarray(values)
        kind = array.dtype.kind
        if dtype.kind == "f":  # from numbers: a cast would make NaN of null and 1 of "1" and true
            large = kind == "O" and all(type(value) in (int, float) for value in array.flat)  # integers beyond 64 bits
            if kind not in "iuf" and not large:
                raise ValueError
        else:  # an integer from an integer that it holds: a cast would cut 1.5 and wrap 2 ** 31 round
            limits = np.iinfo(dtype)
            if kind != "i" or (array.size and not limits.min <= array.min() <= array.max() <= limits.max):
                raise ValueError
        array = array.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        raise BadRequestError(f"rows of {spec['name']!r} are not {spec['dtype']} of shape {list(spec['shape'])}") from None
    return _check(array, spec)


def _from_npy(body):
    try:
        return np.load(io.BytesIO(body), allow_pickle=False)
    except Exception as error:  # NumPy's reader raises whatever it likes: MemoryError for a shape that says too much
        raise BadRequestError(f"the .npy cannot be read: {error}") from None


def _from_raw(body, specs):
    sizes = [math.prod(spec["shape"]) * np.dtype(spec["dtype"]).itemsize for spec in specs]
    if len(body) % sum(sizes):
        shapes = ", ".join(f"{spec['dtype']} {list(spec['shape'])}" for spec in specs)
        raise BadRequestError(f"{len(body)} bytes are not whole rows of {sum(sizes)} bytes ({shapes})")
    rows, start, found = len(body) // sum(sizes), 0, {}
    for spec, size in zip(specs, sizes, strict=True):
        array = np.frombuffer(body, np.dtype(spec["dtype"]).newbyteorder("<"), rows * math.prod(spec["shape"]), start)
        found[spec["name"]] = array.reshape((-1, *spec["shape"])).astype(spec["dtype"], copy=False)
        start += rows * size
    return found


def _check(array, spec):
    shape, dynamic = list(spec["shape"]), spec.get("dynamic", ())
    rows, found = array.shape[:1], list(array.shape[1:])
    open_sizes = len(found) == len(shape) and [n if i in dynamic and n > 0 else shape[i] for i, n in enumerate(found)]
    if rows in ((), (0,)) or found != open_sizes:
        raise BadRequestError(f"rows have shape {found}, expected {shape}")
    if array.dtype != np.dtype(spec["dtype"]):
        raise BadRequestError(f"rows have dtype {array.dtype}, expected {spec['dtype']}")
    return array


def _names(specs):
    return [spec["name"] for spec in specs]


def _numbers(array):
    """JSON of an array with the shortest decimals that read back as the same value (repr of a double has 17 digits)."""
    if array.ndim > 1:
        return "[" + ", ".join(map(_numbers, array)) + "]"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return json.dumps(array.tolist())  # NaN and Infinity, bare, as TF Serving writes them
    if array.ndim == 0:
        return str(array)
    return "[" + ", ".join(map(str, array)) + "]"
