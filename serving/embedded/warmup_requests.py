"""Replays assets.extra/tf_serving_warmup_requests of a version: a TFRecord file of PredictionLog messages.

Predict, Classify, Regress and MultiInference logs are what the format holds; Predict logs are replayed, others are
counted and named in the log. A file that cannot be read or a request that fails makes the load fail, as in
the real server (saved_model_warmup_util.cc).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from serving import tfs_stubs as tfs
from serving.embedded import tensors
from serving.embedded.errors import Code, ServingError, invalid
from serving.embedded.signature import DEFAULT_SIGNATURE, Runnable

log = logging.getLogger(__name__)

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000  # WarmupConsts::kMaxNumRecords


def replay(model: Runnable, folder: Path) -> int:
    """Run the recorded requests; returns how many. Raises ServingError."""
    path = folder / FILE
    if not path.is_file():
        log.info("No warmup data file found at %s", path)
        return 0
    count = skipped = 0
    for record in records(path):
        if count + skipped >= MAX_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
        try:
            entry = tfs.prediction_log_pb2.PredictionLog.FromString(record)
        except DecodeError as error:
            raise ServingError(Code.DATA_LOSS, f"Failed to parse warmup record: {count} from {path}") from error
        if entry.WhichOneof("log_type") != "predict_log":
            skipped += 1
            continue
        _predict(model, entry.predict_log.request)
        count += 1
    log.info("Finished reading warmup data for model at %s. Number of warmup records read: %d", folder, count)
    if skipped:
        log.warning("%d warmup records of other kinds than predict were not replayed", skipped)
    return count


def _predict(model: Runnable, request: object) -> None:
    spec, inputs = request.model_spec, request.inputs  # type: ignore[attr-defined]
    signature = model.signatures.get(spec.signature_name or DEFAULT_SIGNATURE)
    if signature is None or set(inputs) != set(signature.inputs):
        raise invalid(f"A warmup request does not fit the model: signature {spec.signature_name!r}, inputs {sorted(inputs)}")
    feeds = [tensors.to_numpy(inputs[alias], alias) for alias in signature.feed_order]
    model.run(signature, feeds, signature.output_order)


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its checksum, the bytes, their checksum. Raises ServingError."""
    with path.open("rb") as file:
        while head := file.read(12):
            size = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0
            data = file.read(min(size, 1 << 31))
            if len(head) != 12 or len(data) != size or len(file.read(4)) != 4:
                raise ServingError(Code.DATA_LOSS, f"truncated record in {path}")
            yield data
