"""Which versions of which models are served: configuration, polling, loading, unloading, look-up.

Everything runs in the event loop except listing folders and loading, which go to threads; one version loads at a
time. A new version is AVAILABLE before the one it replaces is unloaded, and a version that fails to load never
costs the one that serves. A loaded version is closed only when its last request has been answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.embedded import versions
from serving.embedded.batcher import Batcher
from serving.embedded.config import ModelConfig
from serving.embedded.directory import Directory, Known, Served, quiesced
from serving.embedded.errors import Code, ServingError
from serving.embedded.versions import State, VersionStatus

log = logging.getLogger(__name__)

Loader = Callable[[str, int, Path], Any]


@dataclass(frozen=True, kw_only=True)
class ManagerOptions:
    """Polling and retries, in seconds; see the flags of the same names."""

    poll_wait_s: float = 1.0
    max_num_load_retries: int = 5
    load_retry_interval_s: float = 60.0
    allow_labels_for_unavailable: bool = False
    force_labels_for_unavailable: bool = False


@dataclass(eq=False, kw_only=True)
class _Model(Known):
    """With what is under way."""

    loads: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    aspired: list[int] = field(default_factory=list)


class Manager(Directory):
    """See the module. `loader` blocks and runs in `load_executor`; `make_batcher` is called in the event loop.

    `publish` is told of every change and returns when all who look up elsewhere (worker processes) know it.
    """

    def __init__(
        self,
        loader: Loader,
        make_batcher: Callable[[Any], Batcher],
        load_executor: Executor,
        options: ManagerOptions,
        publish: Callable[[Mapping[str, Known]], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__()
        self._publish_to = publish
        self._loader = loader
        self._make_batcher = make_batcher
        self._executor = load_executor
        self._options = options
        self._models: dict[str, _Model]
        self._reconfiguring = asyncio.Lock()
        self._loading = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._poller: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    # -- configuration -------------------------------------------------------------------------------------------

    async def start(self, configs: list[ModelConfig]) -> None:
        """Load the first configuration and keep polling; returns when every model has a version.

        Raises ServingError where a version fails for good, or a label names a version that is not loaded.
        """
        await self.configure(configs)  # nothing is loaded yet: as the real server, it refuses labels unless a flag allows them

    async def configure(self, configs: list[ModelConfig]) -> None:
        """Replace the configuration (a reload). Returns when every model has a version. Raises ServingError."""
        async with self._reconfiguring:
            self._check_labels(configs)
            log.info("Adding/updating models.")
            wanted = {config.name: config for config in configs}
            for name, model in self._models.items():
                if name not in wanted:
                    model.config = None
            for config in configs:
                log.info(" (Re-)adding model: %s", config.name)
                model = self._models.setdefault(config.name, _Model(config=config))
                if model.config is None or model.config.base_path != config.base_path:
                    model.failed.clear()
                model.config = config
            await self._poll()
            if self._poller is None and self._options.poll_wait_s > 0:
                self._poller = asyncio.create_task(self._poll_for_ever())
            try:
                await self._wait_available(list(wanted))
            finally:
                await self._publish()

    async def _publish(self) -> None:
        if self._publish_to is not None:
            await self._publish_to(self._models)

    def _check_labels(self, configs: list[ModelConfig]) -> None:
        """Refuse labels of versions that are not loaded (ServerCore::UpdateModelVersionLabelMap).

        What allows them does not let a label that is in force move to one; only what forces them does.
        """
        if self._options.force_labels_for_unavailable:
            return
        for config in configs:
            model = self._models.get(config.name)
            in_force = model.config.labels if model and model.config else {}
            for label, version in config.labels.items():
                allowed = self._options.allow_labels_for_unavailable and in_force.get(label, version) == version
                if not allowed and (model is None or version not in model.served):
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to {label} version {version} of model {config.name}, "
                        "which is not currently available for inference",
                    )

    async def _wait_available(self, names: list[str]) -> None:
        async with self._changed:
            while True:
                models = [self._models[name] for name in names]
                if all(any(model.statuses[v].state is State.AVAILABLE for v in model.served) for model in models):
                    return
                for model in models:
                    if not model.served and model.failed and not model.loads:
                        status = model.statuses[max(model.failed)]
                        raise ServingError(status.code, status.message)
                await self._changed.wait()

    # -- polling -------------------------------------------------------------------------------------------------

    async def _poll_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._options.poll_wait_s)
            try:
                await self._poll()
            except Exception:
                log.exception("A poll failed")

    async def _poll(self) -> None:
        for name, model in list(self._models.items()):
            if model.config is None:
                self._reconcile(name, model, [], {})
                continue
            config = model.config
            try:
                found = await asyncio.to_thread(versions.folders, Path(config.base_path))
            except OSError:
                log.error("FileSystemStoragePathSource encountered a filesystem access error: Could not find base path %s for "
                          "servable %s with error NOT_FOUND: %s not found", config.base_path, name, config.base_path)  # fmt: skip
                continue  # what is loaded stays and keeps answering
            if not found:
                log.warning("No versions of servable %s found under base path %s.", name, config.base_path)
            if model.config is config:
                self._reconcile(name, model, config.aspired(list(found)), found)
        await self._publish()

    def _reconcile(self, name: str, model: _Model, aspired: list[int], found: dict[int, Path]) -> None:
        model.aspired = aspired
        model.failed &= set(aspired)  # a folder that went and comes back is tried again
        for version in aspired:
            if version not in model.served and version not in model.loads and version not in model.failed:
                model.statuses[version] = VersionStatus(version=version, folder=found[version])
                log.info("Successfully reserved resources to load servable {name: %s version: %d}", name, version)
                model.loads[version] = asyncio.create_task(self._load(name, model, model.statuses[version]))
        for version in [number for number in model.loads if number not in aspired]:
            model.loads[version].cancel()
        self._unload_unaspired(name, model)

    def _unload_unaspired(self, name: str, model: _Model) -> None:
        """Availability first: old versions stay until one that is wanted serves, or none is wanted."""
        if not model.aspired or any(version in model.served for version in model.aspired):
            for version in [number for number in model.served if number not in model.aspired]:
                self._unload(name, model, version)

    async def _load(self, name: str, model: _Model, status: VersionStatus) -> None:
        version = status.version
        try:
            served = await self._load_with_retries(name, status)
            model.loads.pop(version, None)  # it can no longer be cancelled
            model.served[version] = served
            await self._publish()
            if model.served.get(version) is served:
                status.state = State.AVAILABLE
            log.info("Successfully loaded servable version {name: %s version: %d}", name, version)
        except ServingError as error:
            status.fail(error)
            model.failed.add(version)
            log.error("Loading servable: {name: %s version: %d} failed: %s", name, version, error)
        except asyncio.CancelledError:
            status.state = State.END
        finally:
            model.loads.pop(version, None)
        self._unload_unaspired(name, model)
        await self._publish()
        async with self._changed:
            self._changed.notify_all()

    async def _load_with_retries(self, name: str, status: VersionStatus) -> Served:
        status.state = State.LOADING
        for attempt in range(self._options.max_num_load_retries + 1):
            if attempt:
                log.info("Retrying the load of {name: %s version: %d}, retry %d", name, status.version, attempt)
                await asyncio.sleep(self._options.load_retry_interval_s)
            try:
                async with self._loading:
                    log.info("Loading servable version {name: %s version: %d}", name, status.version)
                    loading = asyncio.get_running_loop().run_in_executor(
                        self._executor, self._loader, name, status.version, status.folder
                    )
                    try:
                        model = await asyncio.shield(loading)
                    except asyncio.CancelledError:
                        loading.add_done_callback(_close_unwanted)
                        raise
                return Served(model=model, batcher=self._make_batcher(model))
            except ServingError as error:
                failure = error
            except Exception as error:
                log.exception("Loading failed")
                failure = ServingError(Code.INTERNAL, f"{type(error).__name__} while loading; the server's log has more")
        raise failure

    def _unload(self, name: str, model: _Model, version: int) -> None:
        served = model.served.pop(version)
        status = model.statuses[version]
        status.state = State.UNLOADING
        log.info("Quiescing servable version {name: %s version: %d}", name, version)

        async def close() -> None:
            await self._publish()
            await quiesced(served)
            await asyncio.to_thread(served.model.close)
            if status.state is State.UNLOADING:
                status.state = State.END
            await self._publish()
            log.info("Done unloading servable version {name: %s version: %d}", name, version)

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def stop(self) -> None:
        """Stop polling and loading; what is loaded stays until the process ends."""
        tasks = [load for model in self._models.values() for load in model.loads.values()]
        if self._poller is not None:
            tasks.append(self._poller)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _close_unwanted(done: asyncio.Future[Any]) -> None:
    """A load that ended after nobody wanted it any more."""
    if not done.cancelled() and done.exception() is None:
        asyncio.get_running_loop().run_in_executor(None, done.result().close)
