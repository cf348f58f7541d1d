"""What a servable can do without a server: the same code and cores, no front end, no wire. The limit for its server.

    python -m serving.inprocess --kind handler --artifact cnn.mar --model cnn --cores 0
    python -m serving.inprocess --kind onnx --artifact cnn_torch.onnx --model cnn --cores 0

`handler` unpacks a TorchServe archive and calls its handler as a worker would, with requests already in memory (raw bytes,
and JSON); `onnx` calls ONNX Runtime; `savedmodel` runs the graph as the embedded server does. Rows a
second, best of the rounds, at each `--shapes` REQUESTSxROWS. One process for one servable, so that threads
and memory mean something.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faceoff import cli, endpoints, progress, servables
from faceoff.errors import FaceoffError, UsageError, unknown
from faceoff.servables import Trained
from serving.placement import choose_cores
from serving.protocols import codec

ROUNDS = 3


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Load the servable on the given cores and call it; returns rows a second by shape, and the memory it took."""
    kinds: dict[str, Callable[[Path, Trained], Calls]] = {"handler": _handler, "onnx": _onnx, "savedmodel": _savedmodel}
    if args.kind not in kinds:
        raise unknown("kind", args.kind, list(kinds), "--kind")
    if not args.artifact.exists():
        raise UsageError(f"--artifact {args.artifact}: not there; expected an exported servable")
    shapes = [_shape(text) for text in cli.comma_list(args.shapes)]
    cores = choose_cores(args.cores, share=True)
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(len(cores))  # before torch is imported
    trained = servables.read_trained(cli.store(args), args.model)
    calls = kinds[args.kind](args.artifact, trained)
    found = {}
    for requests, rows in shapes:
        for name, call in calls(requests, rows).items():
            found[f"{name} {requests}x{rows}"] = round(_rows_per_s(call, requests * rows, args.seconds), 1)
    progress.table(f"In process: {args.artifact.name}, cores {list(cores)}", ["what", "rows/s"], list(found.items()))
    import psutil

    memory = psutil.Process().memory_info().rss / 2**20
    return {"kind": args.kind, "cores": list(cores), "rows_per_s": found, "rss_mib": round(memory, 1)}


Calls = Callable[[int, int], dict[str, Callable[[], object]]]


def _handler(archive: Path, trained: Trained) -> Calls:
    where = endpoints.nowhere("torchserve", trained.manifest.model, 1)
    codecs = {name: codec(where, trained.signature, "rest", name) for name in ("raw", "json")}
    folder = Path(tempfile.mkdtemp(prefix="inprocess-"))
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))
        sys.path.insert(0, str(folder))
        module = importlib.import_module(Path(manifest["model"]["handler"]).stem)
        (kind,) = [
            v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__ and hasattr(v, "handle")
        ]
        handler = kind()
        context = _Context(str(folder), manifest)
        handler.initialize(context)
    finally:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)

    def calls(requests: int, rows: int) -> dict[str, Callable[[], object]]:
        batches = [trained.golden.rows(index * rows, rows).inputs for index in range(requests)]
        raw = [{"body": codecs["raw"].encode(batch)} for batch in batches]
        text = [{"body": json.loads(codecs["json"].encode(batch))} for batch in batches]  # the front end's worker has parsed it
        for data in (raw, text):
            answers = handler.handle(data, context)
            if context.refused or len(answers) != requests:
                raise FaceoffError(f"the handler of {archive} refuses the golden rows: {answers[:1]}")
        return {"raw": lambda: handler.handle(raw, context), "json": lambda: handler.handle(text, context)}

    return calls


class _Context:
    """As much of TorchServe's context as a handler may ask for."""

    def __init__(self, folder: str, manifest: dict[str, Any]) -> None:
        self.system_properties = {"model_dir": folder, "gpu_id": None, "server_name": "inprocess"}
        self.manifest, self.model_yaml_config = manifest, dict[str, Any]()
        self.refused = False

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.refused = self.refused or code != 200

    def set_response_content_type(self, request_id: int, value: str) -> None:
        """Of no use here."""


def _onnx(path: Path, trained: Trained) -> Calls:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in trained.signature.inputs]
    if sorted(item.name for item in session.get_inputs()) != sorted(names):
        raise FaceoffError(f"{path} has the inputs {[item.name for item in session.get_inputs()]}, expected {names}")

    def calls(requests: int, rows: int) -> dict[str, Callable[[], object]]:
        feeds = trained.golden.rows(0, requests * rows).inputs
        return {"onnxruntime": lambda: session.run(None, feeds)}

    return calls


def _savedmodel(path: Path, trained: Trained) -> Calls:
    with cli.quiet_tensorflow():
        from serving.embedded import model

        loaded = model.load(trained.manifest.model, 1, path, model.LoadOptions(warm_up=False, replay_requests=False))
    signature = loaded.signatures["serving_default"]

    def calls(requests: int, rows: int) -> dict[str, Callable[[], object]]:
        inputs = trained.golden.rows(0, requests * rows).inputs
        feeds = [inputs[alias] for alias in signature.feed_order]
        return {"tensorflow": lambda: loaded.run(signature, feeds, signature.output_order)}

    return calls


def _rows_per_s(call: Callable[[], object], rows: int, seconds: float) -> float:
    deadline, best = time.perf_counter() + seconds / 4, 0.0
    while time.perf_counter() < deadline:
        call()
    for _ in range(ROUNDS):
        started, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - started) < seconds / ROUNDS:
            call()
            count += 1
        best = max(best, count * rows / spent)
    return best


def _shape(text: str) -> tuple[int, int]:
    requests, _, rows = text.partition("x")
    if not (requests.isdecimal() and rows.isdecimal() and int(requests) > 0 and int(rows) > 0):
        raise UsageError(f"--shapes: found {text!r}, expected REQUESTSxROWS like 16x1")
    return int(requests), int(rows)


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.inprocess`."""
    parser = cli.Parser(prog="python -m serving.inprocess", description=__doc__)
    parser.add_model()
    parser.add_argument("--kind", required=True, help="handler (of a .mar), onnx or savedmodel")
    parser.add_argument("--artifact", type=Path, required=True, help="the exported file or folder")
    parser.add_argument("--shapes", default="1x1,16x1,1x32", help="comma list of REQUESTSxROWS (default: %(default)s)")
    parser.add_argument("--cores", default="", help="like 0-2,4 (default: all but the generator's)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
