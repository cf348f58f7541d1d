"""SavedModel warm-up: recorded requests that TensorFlow Serving (and the embedded server) replays at every load.

`python -m serving.tfserving.warmup --saved-model DIR --model cnn --version 1 --images EXPORT` writes
DIR/assets.extra/tf_serving_warmup_requests: a TFRecord file of PredictionLog messages, one golden request at each batch
size and one golden image in each encoding, so that a version is AVAILABLE only when it has run them. To be called on a
SavedModel before its export's manifest is written. https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faceoff import cli, endpoints, images, servables
from faceoff.errors import UsageError
from faceoff.golden import Golden
from faceoff.signature import Signature
from serving.protocols import codec

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
MAX_BYTES = 8 * 1024 * 1024  # of one request; it would be read at every load


def write(
    saved_model: Path,
    *,
    model: str,
    version: int,
    signature: Signature,
    golden: Golden,
    pictures: Mapping[str, Golden] | None = None,
) -> int:
    """Write the file; returns how many requests it holds."""
    from serving import tfs_stubs as tfs

    nowhere = endpoints.nowhere("tfserving", model, version, "saved_model")
    coder = codec(nowhere, signature, "grpc")
    bodies: list[bytes] = []
    for batch_size in BATCH_SIZES:
        body = coder.encode(golden.rows(0, batch_size).inputs)
        if bodies and len(body) > MAX_BYTES:
            break
        bodies.append(body)
    for encoding, rows in (pictures or {}).items():
        bodies.append(codec(nowhere, signature, "grpc", encoding).encode(rows.rows(0, 1).inputs))
    records = []
    for body in bodies:
        entry = tfs.prediction_log_pb2.PredictionLog()
        entry.predict_log.request.ParseFromString(body)
        # Whatever version the folder is given at serving time is the one that is warmed.
        entry.predict_log.request.model_spec.ClearField("version")
        records.append(entry.SerializeToString(deterministic=True))
    path = saved_model / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(map(tf_record, records)))
    return len(records)


def tf_record(data: bytes) -> bytes:
    """One record of a TFRecord file: length, its checksum, the bytes, their checksum."""
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    checksum = _crc32c(data)
    return struct.pack("<I", (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), reflected; the standard library has only CRC-32."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = _TABLE[(checksum ^ byte) & 0xFF] ^ (checksum >> 8)
    return checksum ^ 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return tuple(table)


_TABLE = _table()


def warm(args: argparse.Namespace) -> dict[str, Any]:
    """Write the warm-up of one SavedModel from the golden rows of its training."""
    if not (args.saved_model / "saved_model.pb").is_file():
        raise UsageError(f"--saved-model {args.saved_model}: found no saved_model.pb, expected the folder of a SavedModel")
    trained = servables.read_trained(cli.store(args), args.model)
    count = write(
        args.saved_model,
        model=args.model,
        version=args.version,
        signature=trained.signature,
        golden=trained.golden,
        pictures=images.read(args.images, trained.signature) if args.images else None,
    )
    return {"file": str(args.saved_model / FILE), "requests": count}


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.tfserving.warmup`."""
    parser = cli.Parser(prog="python -m serving.tfserving.warmup", description=__doc__)
    parser.add_model()
    parser.add_argument("--version", type=cli.positive_int, default=1, help="version of the servable (default: %(default)s)")
    parser.add_argument("--saved-model", type=Path, required=True, help="folder of one version, with saved_model.pb")
    parser.add_argument("--images", type=Path, help="folder of an export that holds golden images (default: none)")
    parser.add_store()
    return cli.run(parser, warm, argv)


if __name__ == "__main__":
    raise SystemExit(main())
