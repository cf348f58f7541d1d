"""Golden images: what encoded images an export is proved with. Drawn once; every server and every encoding gets the same.

The first are golden rows as pictures of the model's own size. The others are of other sizes and kinds: smaller and larger,
wide and high, one pixel, grey for a model of colours and coloured for a model of grey, with transparency and a palette; JPEG of
several qualities, with and without subsampled colours, progressive.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from faceoff.images import NUM_OF_MODEL_SIZE, WHITE

# (height, width) in units of the model's, as fractions
_SIZES = ((1 / 2, 1 / 2), (2, 2), (3, 1 / 2), (1 / 3, 5 / 2), (1.3, 1.7), (1, 2), (0, 0), (5 / 2, 2))
_QUALITIES = (95, 75, 40)


def draw(rows: np.ndarray) -> dict[str, list[bytes]]:
    """By encoding, NUM_OF_MODEL_SIZE images made of float32 `rows` (rows, height, width, 1 or 3), then one of each size."""
    _, height, width, channels = rows.shape
    chosen = rows[np.arange(NUM_OF_MODEL_SIZE) % len(rows)]
    arrays = list(np.rint(np.clip(chosen, 0, 1) * WHITE).astype(np.uint8))
    rng = np.random.default_rng(20)
    for number, (tall, wide) in enumerate(_SIZES):
        size = (max(1, round(tall * height)), max(1, round(wide * width)))
        arrays.append(_scene(size, channels if number % 2 else 4 - channels, rng))
    return {"png": [_png(n, a) for n, a in enumerate(arrays)], "jpeg": [_jpeg(n, a) for n, a in enumerate(arrays)]}


def _scene(size: tuple[int, int], channels: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 (*size, channels): waves of a few pixels with noise over them, so that a wrong place shows."""
    y, x = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(x / (1 + n) + n) + np.cos(y / (2 + n) - n) for n in range(channels)]
    return (np.stack(waves, axis=-1) * 50 + 100 + rng.integers(0, 56, (*size, channels))).astype(np.uint8)


def _image(array: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _png(number: int, array: np.ndarray) -> bytes:
    image = _image(array)
    if number >= NUM_OF_MODEL_SIZE:
        kind = number % 4
        image = image.convert("P") if kind == 1 else image
        if kind == 2:
            image.putalpha(100)
    return _saved(image, "PNG")


def _jpeg(number: int, array: np.ndarray) -> bytes:
    quality = _QUALITIES[number % len(_QUALITIES)]
    options = {"quality": quality, "progressive": quality == min(_QUALITIES)}
    return _saved(_image(array), "JPEG", **options, **({"subsampling": number % 3} if array.shape[2] == 3 else {}))


def _saved(image: Any, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
