"""What a user gives as input to rows of a model: files, a folder of them, or standard input.

| given        | holds                                                                                       |
|--------------|---------------------------------------------------------------------------------------------|
| .npy         | one row or a batch of the model's only input                                                |
| .npz         | one array for each input, by name                                                           |
| .json        | `{"instances": [...]}` as TF Serving takes it, `{"inputs": {...}}`, or the bare list of rows |
| .png .jpg    | one picture, converted to the model's channels in [0, 1], never resized                     |
| a folder     | all of these in it, by name                                                                 |
| -            | standard input: .npy, .npz, a picture or JSON, told apart by its first bytes                |

Raises UsageError, in one line, for what is missing, unreadable or of another shape.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceoff.errors import UsageError
from faceoff.images import WHITE
from faceoff.signature import Arrays, Signature, TensorSpec

STDIN = "-"


@dataclass(frozen=True, kw_only=True)
class Input:
    """Rows, and for each what to call it: the file, and its number where the file holds several."""

    arrays: Arrays
    names: tuple[str, ...]


def read(source: str, signature: Signature) -> Input:
    """The rows that `source` (a file, a folder or `-`) holds."""
    if not source:  # as a path it would be the current folder
        raise UsageError(f"INPUT is empty: expected a file ({', '.join(READERS)}), a folder, or - for standard input")
    if source == STDIN:
        data = sys.stdin.buffer.read()
        return _named("stdin", _parse(STDIN, _kind(data), data, signature))
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in READERS and p.is_file())
        if not files:
            raise UsageError(f"INPUT={path}: found no {', '.join(READERS)} in the folder, expected at least one")
        parts = [_named(file.name, read_file(file, signature)) for file in files]
        arrays = {spec.name: np.concatenate([part.arrays[spec.name] for part in parts]) for spec in signature.inputs}
        return Input(arrays=arrays, names=tuple(name for part in parts for name in part.names))
    return _named(path.name, read_file(path, signature))


def read_file(path: Path, signature: Signature) -> Arrays:
    """The rows of one file by input."""
    if not path.is_file():
        raise UsageError(f"INPUT={path}: no such file; expected {', '.join(READERS)}, a folder, or - for standard input")
    if path.suffix.lower() not in READERS:
        raise UsageError(f"INPUT={path}: found {path.suffix or 'no suffix'!r}, expected one of {', '.join(READERS)}")
    return _parse(str(path), path.suffix.lower(), path.read_bytes(), signature)


def _parse(where: str, suffix: str, data: bytes, signature: Signature) -> Arrays:
    try:
        found = READERS[suffix](data, signature)
    except UsageError as error:
        raise UsageError(f"INPUT={where}: {error}") from error
    except (ValueError, OSError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"INPUT={where} cannot be read as {suffix}: {' '.join(str(error).split())}") from error
    try:
        rows = {spec.name: _rows(found[spec.name], spec) for spec in signature.inputs}
        signature.check_inputs({**found, **rows})
    except KeyError as error:
        expected = [spec.name for spec in signature.inputs]
        raise UsageError(f"INPUT={where} has no {error}: found {sorted(found)}, expected {expected}") from error
    except (UsageError, ValueError, TypeError) as error:
        raise UsageError(f"INPUT={where}: {error}") from error
    return rows


def _rows(found: Any, spec: TensorSpec) -> np.ndarray:
    array = np.asarray(found)
    if array.shape == spec.shape:
        array = array[np.newaxis]
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{spec.name!r} holds {array.dtype}, expected numbers")
    rows = np.ascontiguousarray(array, dtype=spec.dtype)
    if np.dtype(spec.dtype).kind in "iu" and not np.array_equal(rows, array):
        raise UsageError(f"{spec.name!r} holds numbers that are no {spec.dtype}")
    spec.check(rows)
    if len(rows) == 0:
        raise UsageError("found no rows, expected at least one")
    return rows


def _only(signature: Signature) -> TensorSpec:
    if len(signature.inputs) != 1:
        names = [spec.name for spec in signature.inputs]
        raise UsageError(f"the model has the inputs {names}: expected an .npz or .json that names them")
    return signature.inputs[0]


def _npy(data: bytes, signature: Signature) -> dict[str, Any]:
    return {_only(signature).name: np.load(io.BytesIO(data), allow_pickle=False)}


def _npz(data: bytes, signature: Signature) -> dict[str, Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _json(data: bytes, signature: Signature) -> dict[str, Any]:
    document = json.loads(data)
    if isinstance(document, dict) and isinstance(document.get("inputs"), dict):
        return dict(document["inputs"])
    if isinstance(document, dict) and "instances" not in document:
        found = ", ".join(map(repr, document)) or "an empty table"
        raise UsageError(f'found {found}, expected {{"instances": [...]}}, {{"inputs": {{...}}}} or a list of rows')
    instances = document["instances"] if isinstance(document, dict) else document
    if isinstance(instances, list) and instances and all(isinstance(row, dict) for row in instances):
        if other := next((row for row in instances if set(row) != set(instances[0])), None):
            raise UsageError(f"found a row of {sorted(other)} beside one of {sorted(instances[0])}, expected the same in each")
        return {name: [row[name] for row in instances] for name in instances[0]}
    return {_only(signature).name: instances}


def _image(data: bytes, signature: Signature) -> dict[str, Any]:
    """Pixels as float32 in [0, 1], (height, width, channels)."""
    from PIL import Image, UnidentifiedImageError

    spec = _only(signature)
    if len(spec.shape) != 3 or spec.shape[2] not in (1, 3):
        raise UsageError(f"the model takes rows of {spec.shape}, not images")
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("L" if spec.shape[2] == 1 else "RGB"), dtype=np.float32) / np.float32(WHITE)
    except UnidentifiedImageError as error:  # its message names our buffer
        raise ValueError("found no picture in it, expected PNG or JPEG") from error
    except (SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises for broken and for huge ones
        raise ValueError(str(error)) from error
    return {spec.name: pixels.reshape((*pixels.shape[:2], spec.shape[2]))}


READERS: dict[str, Callable[[bytes, Signature], dict[str, Any]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".json": _json,
    ".png": _image,
    ".jpg": _image,
    ".jpeg": _image,
}


def _kind(data: bytes) -> str:
    marks = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}
    return next((suffix for mark, suffix in marks.items() if data.startswith(mark)), ".json")


def _named(name: str, arrays: Arrays) -> Input:
    count = len(next(iter(arrays.values())))
    names = (name,) if count == 1 else tuple(f"{name}[{row}]" for row in range(count))
    return Input(arrays=arrays, names=names)
