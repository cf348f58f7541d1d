"""Which loaded version a request means, and in which state versions are: what requests are answered from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from serving.embedded.batcher import Batcher
from serving.embedded.config import ModelConfig
from serving.embedded.errors import invalid, not_found
from serving.embedded.versions import ModelSpec, VersionStatus


@dataclass(eq=False, kw_only=True)
class Served:
    """A loaded version and the batcher in front of it. It is not closed while a request is inside `with served:`."""

    model: Any
    batcher: Batcher
    users: int = 0

    def __enter__(self) -> Served:
        self.users += 1
        return self

    def __exit__(self, *exc: object) -> None:
        self.users -= 1


@dataclass(eq=False, kw_only=True)
class Known:
    """What requests are answered from, of one configured (or once configured) model."""

    config: ModelConfig | None
    served: dict[int, Served] = field(default_factory=dict)
    statuses: dict[int, VersionStatus] = field(default_factory=dict)


class Directory:
    """Look-up: which loaded version a request means, and in which state versions are."""

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}  # of Known

    def find(self, spec: ModelSpec) -> Served:
        """The version a request means. Raises ServingError in the real server's words."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        served: dict[int, Served] = model.served if model else {}
        version = spec.version
        if spec.label is not None:
            labels = model.config.labels if model and model.config else {}
            if spec.label not in labels:
                raise invalid(f"Unrecognized servable version label: {spec.label}")
            version = labels[spec.label]
        if version is None:
            if not served:
                raise not_found(f"Servable not found for request: Latest({spec.name})")
            return served[max(served)]
        if version not in served:
            raise not_found(f"Servable not found for request: Specific({spec.name}, {version})")
        return served[version]

    def statuses(self, name: str, version: int | None) -> list[VersionStatus]:
        """Every version ever aspired, newest first; or the one asked for. Raises ServingError(NOT_FOUND)."""
        model = self._models.get(name)
        known: dict[int, VersionStatus] = model.statuses if model else {}
        if version is not None:
            if version not in known:
                raise not_found(f"Could not find version {version} of model {name}")
            return [known[version]]
        if not known:
            raise not_found(f"Could not find any versions of model {name}")
        return [known[number] for number in sorted(known, reverse=True)]

    async def configure(self, configs: list[ModelConfig]) -> None:
        """Replace the configuration (a reload). Returns when every model has a version. Raises ServingError."""
        raise NotImplementedError


async def quiesced(served: Served) -> None:
    """Return when no request is inside any more."""
    while served.users:
        await asyncio.sleep(0.01)
    await served.batcher.drained()
