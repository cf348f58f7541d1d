"""The servers' images: how each is named, built, and asked what it holds."""

from __future__ import annotations

import os
from dataclasses import dataclass

from faceoff import cli
from faceoff.errors import UsageError
from serving import containers
from serving.servers import server_class

_LIBRARIES = "from importlib.metadata import version as v; print('TorchServe', v('torchserve') + ', torch', v('torch'))"


@dataclass(frozen=True, kw_only=True)
class Image:
    """One server's. `version` is that of what it is named after; `asks` is run inside to say what really runs."""

    repository: str
    version: str
    dockerfile: str
    variable: str
    asks: tuple[str, ...]

    def name(self, device: str) -> str:
        """The user's (`variable` in the environment), else ours, such as faceoff/torchserve:0.12.0-cpu."""
        return os.environ.get(self.variable) or f"{self.repository}:{self.version}-{device}"


def replaced(known: str, name: str) -> dict[str, str]:
    """The entry of a kustomization's `images` that puts the image `name` in the place of `known`, whatever its tag."""
    name, _, digest = name.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # no tag: that colon is before a registry's port
        repository, tag = name, "latest"
    return {"name": known, "newName": repository, **({"digest": digest} if digest else {"newTag": tag})}


IMAGES = {
    "torchserve": Image(
        repository="faceoff/torchserve",
        version="0.12.0",
        dockerfile="serving/torchserve/Dockerfile",
        variable="TORCHSERVE_IMAGE",
        asks=("/opt/venv/bin/python", "-c", _LIBRARIES),
    ),
    "tfserving": Image(
        repository="faceoff/tfserving",
        version="2.19.1",
        dockerfile="serving/tfserving/Dockerfile",
        variable="TFSERVING_IMAGE",
        asks=("/usr/bin/tensorflow_model_server", "--version"),
    ),
    "tfserving-embedded": Image(
        repository="faceoff/tfserving-embedded",
        version="2.21.0",  # TensorFlow's
        dockerfile="serving/embedded/Dockerfile",
        variable="TFSERVING_IMAGE",
        asks=("/opt/venv/bin/python", "-m", "serving.embedded", "--version"),
    ),
}


def resolve(servers: str) -> list[str]:
    """The servers to start, as named: in a container `tfserving` is Google's. Raises UsageError."""
    names = cli.comma_list(servers)
    for name in names:
        server_class(name)
        if name not in IMAGES:
            raise UsageError(f"SERVERS={servers}: found {name}, which has no image; expected some of {', '.join(IMAGES)}")
    if not names or len({containers.service(name) for name in names}) != len(names):
        raise UsageError(
            f"SERVERS={servers}: expected torchserve and one of tfserving and tfserving-embedded, which take the same place"
        )
    return names
