"""Made-up inputs: to warm every batch size, to prove that rows do not influence each other, to compare two graphs.

TF-free: it works on any `Runnable`. Rows are deterministic and differ from each other.
"""

from __future__ import annotations

import logging
import struct
import time
import zlib
from collections.abc import Sequence

import numpy as np

from serving.embedded.batcher import padded_rows
from serving.embedded.errors import ServingError
from serving.embedded.signature import Runnable, Signature, TensorInfo

log = logging.getLogger(__name__)

TEXTS = ("digits", "images")  # what made-up strings may be: a model that reads other ones refuses them
UNKNOWN_SIZE = 2  # for a dynamic dimension other than the batch
SLOW_RUN_S = 0.5  # a size that takes longer than this is the last one warmed and the largest natural batch
MAX_ELEMENTS = 2**26  # of one made-up input


def feeds(signature: Signature, num_rows: int, texts: str = TEXTS[0]) -> list[np.ndarray] | None:
    """Inputs of `num_rows` rows in feed order, or None where they cannot be made up (unknown rank, huge)."""
    arrays = [_array(signature.inputs[alias], num_rows, index, texts) for index, alias in enumerate(signature.feed_order)]
    return None if any(array is None for array in arrays) else [array for array in arrays if array is not None]


def texts_of(model: Runnable, signature: Signature) -> str:
    """The first of TEXTS that the model runs with; the first of all where it runs with none, or takes no strings."""
    for texts in TEXTS:
        made = feeds(signature, 1, texts)
        if made is None or not any(array.dtype == object for array in made):
            return texts
        try:
            model.run(signature, made, signature.output_order)
        except ServingError:
            continue
        return texts
    return TEXTS[0]


def _png(value: int) -> bytes:
    """A picture of one grey pixel: signature, size, 8 bits of grey, the deflated row, end; each chunk with its length and CRC."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0),
        b"IDAT": zlib.compress(bytes([0, value])),
        b"IEND": b"",
    }
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _array(info: TensorInfo, num_rows: int, seed: int, texts: str) -> np.ndarray | None:
    if info.shape is None or not info.has_batch:
        return None
    shape = (num_rows, *(UNKNOWN_SIZE if size < 0 else size for size in info.shape[1:]))
    count = int(np.prod(shape, dtype=np.int64))
    if count > MAX_ELEMENTS or len(shape) > 32:
        return None
    try:
        dtype = info.dtype
    except ServingError:
        return None
    if dtype.is_string:
        values = np.empty(count, object)
        values[:] = [b"%d" % (index % 7) if texts == "digits" else _png(index % 7 * 30) for index in range(count)]
        return values.reshape(shape)
    rng = np.random.default_rng(seed + 1)
    if np.issubdtype(dtype.numpy, np.integer) or dtype.numpy == np.bool_:
        return rng.integers(0, 2, shape).astype(dtype.numpy)
    return rng.random(shape).astype(dtype.numpy)


def warm(model: Runnable, signature: Signature, max_rows: int) -> int:
    """Run every size a batch is padded to; returns the largest natural batch that is safe and warm (1: rows are never mixed)."""
    if not signature.has_batch:
        return 1
    try:
        texts = texts_of(model, signature)
        if not rows_are_independent(model, signature, texts):
            log.info("Requests are not batched: rows influence each other: %s %s", model.name, signature.name)
            return 1
        warmed, rows = 1, 1
        while rows <= max_rows:
            inputs = feeds(signature, rows, texts)
            assert inputs is not None
            started = time.perf_counter()
            for _ in range(3):
                model.run(signature, inputs, signature.output_order)
            warmed = rows
            if time.perf_counter() - started > 3 * SLOW_RUN_S:
                break
            rows = padded_rows(rows + 1)
    except ServingError as error:
        log.info("Requests are not batched: no made-up input runs: %s %s: %s", model.name, signature.name, error.message[:200])
        return 1
    return warmed


def rows_are_independent(model: Runnable, signature: Signature, texts: str = TEXTS[0]) -> bool:
    """Whether three rows run together give what each gives alone. Raises ServingError where they do not run."""
    together = feeds(signature, 3, texts)
    if together is None:
        return False
    whole = model.run(signature, together, signature.output_order)
    if any(len(array.shape) == 0 or array.shape[0] != 3 for array in whole):
        return False
    for row in range(3):
        alone = model.run(signature, [array[row : row + 1] for array in together], signature.output_order)
        if not _close([array[row : row + 1] for array in whole], alone):
            return False
    return True


def agree(one: Runnable, other: Runnable, signature: Signature) -> bool:
    """Whether two forms of a model answer a made-up request alike (an error from both is alike too)."""
    inputs = feeds(signature, 2, texts_of(one, signature))
    if inputs is None:
        return True
    answers = []
    for model in (one, other):
        try:
            answers.append(model.run(signature, inputs, signature.output_order))
        except ServingError as error:
            answers.append(error.code)  # type: ignore[arg-type]
    if any(isinstance(answer, int) for answer in answers):
        return bool(answers[0] == answers[1])
    return _close(*answers)


def _close(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    for a, b in zip(one, other, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.dtype.kind in "fcV":
            if not np.allclose(a.astype("c16"), b.astype("c16"), rtol=1e-3, atol=1e-4, equal_nan=True):
                return False
        elif not np.array_equal(a, b):
            return False
    return True
