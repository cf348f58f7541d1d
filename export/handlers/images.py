"""PNG and JPEG bytes to the pixels that a model takes, inside a TorchServe worker; export/images_tf.py is its pair.

One definition on both sides, so that the pixels are equal to the last bit:

decode  8 bits a channel (of 16, the upper ones), alpha dropped, profiles and orientation ignored; JPEG by libjpeg's accurate
        integer DCT and its smooth ("fancy") upsampling. Grey of colours is (19595 R + 38470 G + 7471 B + 32768) >> 16.
resize  bilinear, half-pixel centres, no antialiasing: tf.image.resize and torch.nn.functional.interpolate by default. Positions
        are counted in integers, so the weights are the same numbers everywhere; rows first, then columns, in float32.
        An image that has the size already stays as it is.
scale   byte / white. TensorFlow turns a division by a constant into a product with its reciprocal, which in float32 is not
        always the same number, so here and for weights it is one in float64, rounded once.

Packed into every .mar; imports nothing of ours. The golden images of an export are decoded by it too.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin  # the plugins, so that the first request need not import them

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_END = b"IEND\xaeB`\x82"  # Pillow does without it, libpng in TensorFlow does not
_FORMATS = (PngImagePlugin.PngImageFile.format, JpegImagePlugin.JpegImageFile.format)


class ImageError(ValueError):
    """Bytes that are no image, a broken one, or one that is not taken."""


class Decoder:
    """Encoded images to the rows of one model; what `signature_name`, `white` and `max_pixels` are says faceoff/images.py."""

    def __init__(self, shape: tuple[int, ...], *, signature_name: str, white: int, max_pixels: int) -> None:
        self.height, self.width, self.channels = shape
        self.signature_name, self.white, self.max_pixels = signature_name, white, max_pixels

    def begins(self, data: bytes) -> bool:
        """Whether these bytes begin as a PNG or a JPEG, and not as little-endian float32: that would be -1e17 or beyond."""
        return data.startswith(PNG) or (data.startswith(JPEG) and len(data) > 3 and data[3] >= 0xDB)

    def pixels(self, data: bytes) -> np.ndarray:
        """One encoded image to float32 (height, width, channels). Raises ImageError."""
        return scale(resize(decode(data, self.channels, self.max_pixels), self.height, self.width), self.white)


def decode(data: bytes, channels: int, max_pixels: int) -> np.ndarray:
    """uint8 (height, width, channels), the size that the image has. Raises ImageError."""
    if not data.startswith((PNG, JPEG)):
        raise ImageError("not a PNG or JPEG image")
    if data.startswith(PNG) and _PNG_END not in data:
        raise ImageError("the image is truncated")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as file:
            if file.width * file.height > max_pixels:
                raise ImageError(f"the image has more than {max_pixels} pixels")
            if file.mode == "CMYK":
                raise ImageError("the image is in CMYK: expected grey or RGB")
            image: Any = file
            if file.mode.startswith("I"):
                image = Image.fromarray((np.asarray(file) >> 8).astype(np.uint8))
            image = image.convert("RGB")  # without alpha or palette; grey stays what it is
            array = np.asarray(image.convert("L") if channels == 1 else image)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"the image has more than {max_pixels} pixels") from None
    except Exception as error:  # Pillow's readers raise whatever they like
        raise ImageError(f"the image cannot be read: {' '.join(str(error).split())[:200]}") from None
    return array.reshape((*array.shape[:2], channels))


def resize(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (h, w, channels) to float32 (height, width, channels), or as it is where it has that size; not scaled."""
    for axis, size in ((0, height), (1, width)):
        if array.shape[axis] != size:
            lower, upper, weight = neighbours(array.shape[axis], size)
            low = np.take(array, lower, axis).astype(np.float32)
            high = np.take(array, upper, axis).astype(np.float32)
            array = low + (high - low) * weight.reshape((-1, 1, 1) if axis == 0 else (-1, 1))
    return array


def neighbours(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `new_size` places the two source rows that it lies between, and how near it is to the second.

    The place i lies at (i + 1/2) * size / new_size - 1/2: in units of 1 / (2 * new_size), a whole number.
    """
    unit = 2 * new_size
    position = np.clip((2 * np.arange(new_size) + 1) * size - new_size, 0, (size - 1) * unit)
    lower = position // unit
    weight = ((position - lower * unit) * (1.0 / unit)).astype(np.float32)
    return lower, np.minimum(lower + 1, size - 1), weight


def scale(array: np.ndarray, white: int) -> np.ndarray:
    """From 0 to `white` to float32 from 0 to 1."""
    return (array * (1.0 / np.float64(white))).astype(np.float32)
