"""Encoded images as input: which models take them, what a byte of a pixel means, and the golden images that prove it.

A model whose one input is float32 images (height, width, 1 or 3) takes PNG and JPEG too, as another encoding of that
input: its SavedModel has a second signature and its TorchServe archive a handler that decode and resize in the server
(export/images_tf.py, export/handlers/images.py). docs/decisions/0021-image-input.md says how, and why the two are equal.

The golden images of an export lie in its folder, to look at and to send by hand:

    images/png/00.png …   images/jpeg/00.jpg …   images/<encoding>/outputs.npz   what each must give, in order
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceoff import golden
from faceoff.errors import CorruptError
from faceoff.golden import Golden
from faceoff.signature import Arrays, Signature, TensorSpec

ENCODINGS = {"png": ".png", "jpeg": ".jpg"}
SIGNATURE_NAME = "serving_image"  # in the SavedModel and in the JSON of both servers
INPUT = "image_bytes"
WHITE = 255  # the byte that means 1.0: data sets hold images in [0, 1]
MAX_PIXELS = 2**24  # of one image: a small file can hold a huge one
NUM_OF_MODEL_SIZE = 24  # golden images that need no resizing come first: load tests send those


def variant(signature: Signature) -> Signature | None:
    """The signature by which encoded images are sent, one a row (an object array of bytes); None for a model without."""
    if signature.name == SIGNATURE_NAME:
        return signature
    if len(signature.inputs) != 1:
        return None
    (spec,) = signature.inputs
    if spec.dtype != "float32" or spec.dynamic or len(spec.shape) != 3 or spec.shape[2] not in (1, 3):
        return None
    encoded = TensorSpec(name=INPUT, dtype="object", shape=())
    return Signature(inputs=(encoded,), outputs=signature.outputs, name=SIGNATURE_NAME)


def about(signature: Signature) -> dict[str, Any] | None:
    """What a handler inside an archive is told, as plain data; None for a model that takes no images."""
    if variant(signature) is None:
        return None
    return {"signature_name": SIGNATURE_NAME, "white": WHITE, "max_pixels": MAX_PIXELS}


def decoded_by(artifact_format: str) -> bool:
    """Whether an artifact of this format decodes images: archives and SavedModels, which are whole servables, do."""
    return artifact_format.startswith(("mar-", "saved_model"))


def rows(encoded: Sequence[bytes]) -> np.ndarray:
    """Encoded images as the object array (rows,) that `variant` means."""
    array = np.empty(len(encoded), object)
    array[:] = encoded
    return array


def write(directory: Path, encoding: str, encoded: Sequence[bytes], outputs: Arrays) -> None:
    """Write golden images under `directory`/images; `outputs` in the order of `encoded`."""
    folder = directory / "images" / encoding
    folder.mkdir(parents=True)
    for number, data in enumerate(encoded):
        (folder / f"{number:02d}{ENCODINGS[encoding]}").write_bytes(data)
    np.savez(folder / "outputs.npz", **outputs)  # type: ignore[arg-type]


def read(directory: Path, signature: Signature) -> dict[str, Golden]:
    """The golden images of an export by encoding; {} for a model that takes none. Raises CorruptError."""
    encoded_signature = variant(signature)
    if encoded_signature is None:
        return {}
    found = {}
    for encoding, suffix in ENCODINGS.items():
        folder = directory / "images" / encoding
        encoded = rows([path.read_bytes() for path in sorted(folder.glob(f"*{suffix}"))])
        outputs = golden.load(folder / "outputs.npz", command="make export")
        found[encoding] = Golden(inputs={INPUT: encoded}, outputs=outputs)
        sizes = {len(encoded), *(len(array) for array in outputs.values())}
        if len(sizes) != 1 or sorted(outputs) != sorted(spec.name for spec in signature.outputs):
            raise CorruptError(f"{folder} holds {len(encoded)} images and outputs of other ones; run again: make export")
    return found
