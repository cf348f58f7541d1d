"""PNG and JPEG bytes to the pixels that a model takes, inside a SavedModel; export/handlers/images.py is its pair.

That module says what is computed; this one says it in TensorFlow's operators, function by function. Whatever is wrong with
an image is an InvalidArgumentError, which a server answers with 400 or INVALID_ARGUMENT.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from export.handlers.images import JPEG, PNG
from faceoff.images import MAX_PIXELS, WHITE

_HEAD = 24  # bytes of a PNG up to its size
_RED, _GREEN, _BLUE, _HALF = 19595, 38470, 7471, 32768


def pixels(data: Any, shape: tuple[int, ...]) -> Any:
    """Encoded images, string (batch,), to float32 (batch, *shape)."""
    height, width, channels = shape

    def one(image: Any) -> Any:
        found = scale(resize(decode(image, channels), height, width))
        return tf.ensure_shape(found, shape)

    return tf.map_fn(one, data, fn_output_signature=tf.TensorSpec(shape, tf.float32))


def decode(data: Any, channels: int) -> Any:
    """One image to uint8 (height, width, channels), the size that it has."""
    head = tf.cast(tf.io.decode_raw(data, tf.uint8, fixed_length=_HEAD), tf.int64)
    is_png, is_jpeg = _begins(head, PNG), _begins(head, JPEG)
    with tf.control_dependencies([tf.debugging.Assert(is_png | is_jpeg, ["not a PNG or JPEG image"])]):
        shape = tf.cond(is_png, lambda: _png_shape(head), lambda: tf.cast(tf.io.extract_jpeg_shape(data), tf.int64))
    checks = [
        tf.debugging.Assert(shape[0] * shape[1] <= MAX_PIXELS, [f"the image has more than {MAX_PIXELS} pixels"]),
        tf.debugging.Assert(shape[2] <= 3, ["the image is in CMYK: expected grey or RGB"]),
    ]
    with tf.control_dependencies(checks):
        # Reads PNG too, by libpng; with 3 channels the others become RGB without alpha, grey three times itself.
        image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)
    if channels == 3:
        return image
    red, green, blue = tf.unstack(tf.cast(image, tf.int32), axis=-1)
    grey = tf.bitwise.right_shift(_RED * red + _GREEN * green + _BLUE * blue + _HALF, 16)
    return tf.cast(grey[..., tf.newaxis], tf.uint8)


def resize(image: Any, height: int, width: int) -> Any:
    """uint8 (h, w, channels) to float32 (height, width, channels), not scaled."""
    found = tf.cast(image, tf.float32)
    for axis, size in ((0, height), (1, width)):
        # An image of that size already has weights of 0.
        lower, upper, weight = neighbours(tf.shape(image)[axis], size)
        low, high = tf.gather(found, lower, axis=axis), tf.gather(found, upper, axis=axis)
        found = low + (high - low) * tf.reshape(weight, (-1, 1, 1) if axis == 0 else (-1, 1))
    return found


def neighbours(size: Any, new_size: int) -> tuple[Any, Any, Any]:
    """For each of `new_size` places the two source rows that it lies between, and how near it is to the second."""
    size, unit = tf.cast(size, tf.int64), 2 * new_size
    position = tf.clip_by_value((2 * tf.range(new_size, dtype=tf.int64) + 1) * size - new_size, 0, (size - 1) * unit)
    lower = position // unit
    weight = tf.cast(tf.cast(position - lower * unit, tf.float64) * (1.0 / unit), tf.float32)
    return lower, tf.minimum(lower + 1, size - 1), weight


def scale(image: Any) -> Any:
    """From 0 to WHITE to float32 from 0 to 1."""
    return tf.cast(tf.cast(image, tf.float64) * (1.0 / WHITE), tf.float32)


def _begins(head: Any, magic: bytes) -> Any:
    return tf.reduce_all(head[: len(magic)] == tf.constant(list(magic), tf.int64))


def _png_shape(head: Any) -> Any:
    """Height, width and 3: big-endian numbers in the chunk that a PNG begins with, width first."""
    places = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    return tf.stack([tf.reduce_sum(head[20:24] * places), tf.reduce_sum(head[16:20] * places), tf.constant(3, tf.int64)])
