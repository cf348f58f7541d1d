"""Putting the parts together: load, then listen, then serve until a signal, then finish what was accepted.

Neither port opens before every configured model has a version. A port that is taken is found before TensorFlow is
imported, and again when it is bound. With --processes=N this is the supervisor (fleet.py), which does not listen.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from serving.embedded import NAME, config
from serving.embedded.api import Api
from serving.embedded.batcher import MAX_NATURAL_BATCH, MAX_RUNS
from serving.embedded.errors import ServingError
from serving.embedded.flags import Flags
from serving.embedded.fleet import Fleet
from serving.embedded.listen import Listening, StartError, check_ports, grpc_transport
from serving.embedded.loading import Engine
from serving.embedded.manager import Loader, Manager, ManagerOptions
from serving.embedded.metrics import Metrics

log = logging.getLogger(__name__)

__all__ = ["StartError", "check_ports", "main", "serve"]


async def serve(flags: Flags, arguments: Sequence[str]) -> None:
    """Run until SIGTERM or SIGINT. Raises StartError."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = _Server(flags, arguments)
    starting = asyncio.create_task(server.start())
    ending = [asyncio.create_task(event.wait()) for event in (stopped, server.broken)]
    await asyncio.wait([starting, *ending], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        log.info("Stopping: finishing the requests that were accepted")
        await server.stop()
    else:
        log.info("Stopped before the models were loaded")
    if not stopped.is_set():
        raise StartError("a worker process has ended, and the server with it")


class _Server:
    """One process, or a supervisor and its workers."""

    def __init__(self, flags: Flags, arguments: Sequence[str]) -> None:
        self._flags = flags
        self._metrics = Metrics()
        self._listening = Listening()
        self._polling: asyncio.Task[None] | None = None
        self._fleet: Fleet | None = None
        self.broken = asyncio.Event()
        if flags.processes > 1:
            methods: dict[str, Callable[..., Awaitable[Any]]] = {"configure": self._configure, "metrics": self._all_metrics}
            self._fleet = Fleet(arguments, flags.processes, methods)
            self.broken = self._fleet.ended

    async def start(self) -> None:
        """Load everything, then listen. Raises StartError."""
        flags = self._flags
        try:
            batching = config.batching(flags)
            if flags.monitoring_config_file:
                config.read_monitoring(flags.monitoring_config_file)
            if flags.ssl_config_file:
                config.read_ssl(flags.ssl_config_file)
            configs = self._first_configuration()
            self._metrics.tell_settings(_settings(flags, batching))
            if self._fleet is not None:
                await self._fleet.start()
                self._manager = _manager(flags, self._counted(self._fleet.load), lambda model: model, self._fleet.publish)
            else:
                engine = Engine(flags, batching, self._metrics)
                self._manager = _manager(flags, self._counted(engine.load), engine.batcher, None)
            await self._manager.start(configs)
            await self._listen()
        except ServingError as error:
            raise StartError(f"Failed to start server. Error: {error}") from error
        if flags.model_config_file:
            self._polling = asyncio.create_task(_poll_config(flags, self._manager))

    def _first_configuration(self) -> list[config.ModelConfig]:
        flags = self._flags
        if flags.model_config_file:
            return config.read_models(flags.model_config_file)
        log.info(
            "Building single TensorFlow model file config:  model_name: %s model_base_path: %s",
            flags.model_name,
            flags.model_base_path,
        )
        return config.single(flags.model_name, flags.model_base_path)

    async def _listen(self) -> None:
        if self._fleet is not None:
            await self._fleet.all("listen")
            return
        api = Api(
            manager=self._manager,
            metrics=self._metrics,
            tensor_content=self._flags.enable_serialization_as_tensor_content,
            check_method_name=self._flags.enable_signature_method_name_check,
        )
        # TensorFlow leaves some 600,000 Python objects that never go; without this every full collection walks through
        # them (about 0.3 s), which is what the slowest requests then wait for.
        gc.collect()
        gc.freeze()
        await self._listening.open(self._flags, api)

    async def stop(self) -> None:
        """Accept nothing more, finish what was accepted, then let go."""
        if self._polling is not None:
            self._polling.cancel()
        if self._fleet is not None:
            await self._fleet.stop()
        await self._listening.stop()
        await self._manager.stop()

    async def _configure(self, configs: list[config.ModelConfig]) -> None:
        await self._manager.configure(configs)

    async def _all_metrics(self) -> Metrics:
        assert self._fleet is not None
        found = await self._fleet.metrics()
        found.merge(self._metrics)
        return found

    def _counted(self, load: Loader) -> Loader:
        """`load`, counted for the monitoring page."""
        loop = asyncio.get_running_loop()

        def counted(name: str, version: int, path: Path) -> Any:
            started = time.perf_counter()
            succeeded = False
            try:
                loaded = load(name, version, path)
                succeeded = True
                return loaded
            finally:
                loop.call_soon_threadsafe(self._metrics.loaded, str(path), succeeded, time.perf_counter() - started)

        return counted


def _manager(flags: Flags, load: Loader, make_batcher: Callable[[Any], Any], publish: Any) -> Manager:
    return Manager(
        load,
        make_batcher,
        concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="load"),
        ManagerOptions(
            poll_wait_s=float(flags.file_system_poll_wait_seconds),
            max_num_load_retries=flags.max_num_load_retries,
            load_retry_interval_s=flags.load_retry_interval_micros / 1e6,
            allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
            force_labels_for_unavailable=flags.force_allow_any_version_labels_for_unavailable_models,
        ),
        publish,
    )


async def _poll_config(flags: Flags, manager: Manager) -> None:
    """--model_config_file_poll_wait_seconds: apply the file again when it has changed; a bad one changes nothing."""
    path = Path(flags.model_config_file)
    known = await asyncio.to_thread(path.read_bytes)
    while flags.model_config_file_poll_wait_seconds > 0:
        await asyncio.sleep(flags.model_config_file_poll_wait_seconds)
        try:
            text = await asyncio.to_thread(path.read_bytes)
            if text != known:
                known = text
                await manager.configure(config.read_models(str(path)))
        except (OSError, ServingError) as error:
            log.error("Failed to poll the model config file: %s", error)


def _settings(flags: Flags, batching: config.BatchingConfig | None) -> dict[str, object]:
    """What is in force, for the monitoring page; natural batches are at most this large (a model may allow fewer rows)."""
    every = len(os.sched_getaffinity(0))  # TensorFlow's own choice: one thread a core
    return {
        "engine": flags.engine,
        "processes": flags.processes,
        "grpc_transport": grpc_transport(flags) if flags.port else "",
        "batching": "timed" if batching else "natural",
        "max_batch_rows": batching.max_batch_size if batching else MAX_NATURAL_BATCH,
        "max_batch_delay_micros": batching.batch_timeout_micros if batching else 0,
        "num_batch_threads": batching.num_batch_threads if batching else MAX_RUNS,
        "intra_op_threads": flags.intra_op_threads or every,
        "inter_op_threads": flags.inter_op_threads or every,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""),
    }


def main(flags: Flags, arguments: Sequence[str]) -> int:
    """Serve; returns the exit code. One line on stderr says why a start failed."""
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(flags, arguments))
    except StartError as error:
        log.error("%s", error)
        return 255
    log.info("%s has ended", NAME)
    return 0
