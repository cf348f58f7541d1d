"""ONNX Runtime behind the embedded server's transport: a reference that says what the engine costs. Not deployed by default.

Its numbers are neither TensorFlow Serving's nor a product's: the same Python server as `tfserving-embedded`, the same API and
batching, with the model of the same weights run by another engine.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from faceoff.endpoints import Endpoint
from serving.embedded.loading import ONNX_FILE
from serving.servers.embedded import Embedded
from serving.settings import Choice


class OnnxRuntime(Embedded):
    """`python -m serving.embedded --engine=onnxruntime`."""

    name = "onnxruntime"
    artifact_format = "onnx"
    standard_ports: ClassVar = {"tfserving grpc": 8510, "tfserving rest": 8511}
    schema: ClassVar = {**Embedded.schema, "artifact": Choice(("onnx", "onnx-float16", "onnx-int8"))}

    def program(self) -> list[str]:
        """The embedded server with the other engine."""
        return [sys.executable, "-m", "serving.embedded", "--engine=onnxruntime"]

    def lay_out(self, base_path: Path, versions: dict[int, Path]) -> Path:
        """A folder a version, with the one file it must hold."""
        for number, artifact in versions.items():
            folder = base_path / str(number)
            folder.mkdir(parents=True)
            (folder / ONNX_FILE).symlink_to(artifact.resolve())
        return base_path

    @classmethod
    def artifact_of(cls, endpoint: Endpoint) -> str | None:
        """The one file in the version's folder."""
        folder = super().artifact_of(endpoint)
        return str((Path(folder) / ONNX_FILE).resolve()) if folder else None

    def implementation(self) -> str:
        """Said so that nobody takes it for a server of its own."""
        return f"ONNX Runtime {version('onnxruntime')} behind tfserving-embedded's transport (a reference)"
