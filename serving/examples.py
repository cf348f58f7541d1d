"""Requests to try by hand, with curl and grpcurl: `python -m serving.examples --model cnn --out examples`.

Writes, from golden rows of a trained model:

    request.json      the REST body of both servers, {"instances": [...]}
    tfserving.json    a PredictRequest as grpcurl takes it (TensorFlow Serving's API)
    torchserve.json   a PredictionsRequest as grpcurl takes it
    faceoff.protoset  the descriptors of both gRPC services, for `grpcurl -protoset` (no server here has reflection)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from faceoff import cli, endpoints, presets, progress, servables
from faceoff.errors import UsageError
from serving.protocols import codec


def write(args: argparse.Namespace) -> dict[str, Any]:
    """Write the files; returns their paths."""
    from google.protobuf import json_format

    from serving import tfs_stubs as tfs
    from serving.torchserve.stubs import inference_pb2

    store = cli.store(args)
    trained = servables.read_trained(store, presets.model(args.model).name)
    rows = trained.golden.rows(0, args.rows).inputs
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {args.out}: {error.strerror}, expected a folder or the name of a new one") from error
    kinds = {"torchserve": inference_pb2().PredictionsRequest, "tfserving": tfs.predict_pb2.PredictRequest}
    written = []
    for server, message in kinds.items():
        coder = codec(endpoints.nowhere(server, args.model, args.version), trained.signature, "grpc")
        request = message.FromString(coder.encode(rows))
        text = json_format.MessageToJson(request, preserving_proto_field_name=True, indent=None)
        written.append(_save(args.out / f"{server}.json", text.encode()))
    rest = codec(endpoints.nowhere("tfserving", args.model, args.version), trained.signature, "rest")
    written.append(_save(args.out / "request.json", rest.encode(rows)))
    files = (inference_pb2().DESCRIPTOR, tfs.prediction_service_pb2.DESCRIPTOR, tfs.model_service_pb2.DESCRIPTOR)
    written.append(_save(args.out / "faceoff.protoset", protoset(files)))
    progress.say(f"examples: wrote {', '.join(written)}")
    return {"files": written, "rows": args.rows}


def protoset(files: tuple[Any, ...]) -> bytes:
    """A serialized FileDescriptorSet of `files` and all they import, each before what imports it."""
    from google.protobuf import descriptor_pb2

    found: dict[str, Any] = {}

    def add(file: Any) -> None:
        for dependency in file.dependencies:
            add(dependency)
        if file.name not in found:
            found[file.name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(found[file.name])

    for file in files:
        add(file)
    return bytes(descriptor_pb2.FileDescriptorSet(file=list(found.values())).SerializeToString())


def _save(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.examples`."""
    parser = cli.Parser(prog="python -m serving.examples", description=__doc__)
    parser.add_model()
    parser.add_argument("--version", type=cli.positive_int, default=1, help="version that is asked (default: %(default)s)")
    parser.add_argument("--rows", type=cli.positive_int, default=2, help="rows in each request (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("examples"), help="folder (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, write, argv)


if __name__ == "__main__":
    raise SystemExit(main())
