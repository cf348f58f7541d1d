"""TorchServe archives, packed by torch-model-archiver and then made reproducible: the same model, the same bytes.

https://github.com/pytorch/serve/blob/master/model-archiver/README.md. Settings are the server's, not the archive's.
No framework is imported here: both sides pack with it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export import reproducible
from export.writing import Write
from faceoff import images
from faceoff.errors import FaceoffError
from faceoff.servables import Trained

HANDLERS = Path(__file__).parent / "handlers"
MANIFEST = "MAR-INF/MANIFEST.json"
CREATED = "01/01/1980 00:00:00"  # instead of now


def pack(
    path: Path,
    trained: Trained,
    version: int,
    *,
    handler: str,
    served: Path,
    model_file: Path | None = None,
    extra: Sequence[Path] = (),
    servable: dict[str, Any] | None = None,
) -> None:
    """Write the .mar at `path`: the file `served`, our handler for it and, where it has one, the model's source.

    `servable` joins what servable.json tells the handler; `extra` are files and folders packed beside it.
    Raises FaceoffError when the archiver fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        about = {"file": served.name, "signature": trained.signature.to_dict(), **(servable or {})}
        about["image"] = images.about(trained.signature)
        (work / "servable.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        helpers = [HANDLERS / name for name in ("wire.py", "batching.py", "tensors.py")]
        helpers += [HANDLERS / "images.py"] if about["image"] else []
        name = trained.manifest.model
        command = [sys.executable, "-c", "from model_archiver.model_packaging import generate_model_archive as main; main()"]
        command += ["--model-name", name, "--version", str(version), "--export-path", str(work)]
        command += ["--serialized-file", str(served), "--handler", str(HANDLERS / f"{handler}.py")]
        command += ["--model-file", str(model_file)] if model_file else []
        command += ["--extra-files", ",".join(map(str, [*helpers, work / "servable.json", *extra]))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        packed = work / f"{name}.mar"
        if done.returncode != 0 or not packed.exists():
            raise FaceoffError(f"torch-model-archiver ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
        with zipfile.ZipFile(packed) as made:
            about = {**json.loads(made.read(MANIFEST)), "createdOn": CREATED}
        reproducible.zip_members(packed, compress=True, replace={MANIFEST: (json.dumps(about, indent=2) + "\n").encode()})
        shutil.move(packed, path)


def writer(export_onnx: Write) -> Write:
    """A writer of `export_onnx`'s file in an archive, for TorchServe with ONNX Runtime."""

    def write(model: Any, trained: Trained, path: Path, version: int) -> None:
        with tempfile.TemporaryDirectory(prefix=f"{path.stem}-") as folder:
            served = Path(folder) / "model.onnx"
            export_onnx(model, trained, served, version)
            pack(path, trained, version, handler="onnx_session", served=served)

    return write
