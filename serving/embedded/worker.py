"""--processes=N: a worker's side. `python -m serving.embedded.worker FD NUMBER FLAGS…` is started by fleet.py only.

It loads what the supervisor says, opens the shared ports when told to, answers every request by what was last published to
it, and ends, finishing what it has accepted, when the supervisor closes the socket or has gone.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from serving.embedded import config, flags, loading, logs
from serving.embedded.api import Api
from serving.embedded.directory import Directory, Known, Served, quiesced
from serving.embedded.errors import Code, ServingError
from serving.embedded.fleet import Published
from serving.embedded.listen import Listening, StartError
from serving.embedded.metrics import Metrics
from serving.embedded.peer import Method, Peer


class Worker(Directory):
    """The look-up of this process: what was published, on the versions it has loaded."""

    def __init__(self, given: flags.Flags) -> None:
        super().__init__()
        self.methods: dict[str, Method] = {
            "load": self.load,
            "publish": self.publish,
            "unload": self.unload,
            "listen": self.listen,
            "measured": self.measured,
        }
        self.listening = Listening()
        self.peer: Peer
        self._flags = given
        self._metrics = Metrics()
        self._engine = loading.Engine(given, config.batching(given), self._metrics)
        self._loads = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._loaded: dict[tuple[str, int], Served] = {}

    async def load(self, name: str, version: int, folder: Path) -> None:
        """Load and warm up; nobody is answered from it before it is published."""
        model = await asyncio.get_running_loop().run_in_executor(self._loads, self._engine.load, name, version, folder)
        self._loaded[name, version] = Served(model=model, batcher=self._engine.batcher(model))

    async def publish(self, models: Mapping[str, Published]) -> None:
        """From now on requests are answered by this."""
        self._models = {
            name: Known(
                config=known.config,
                served={version: self._loaded[name, version] for version in known.served},
                statuses=known.statuses,
            )
            for name, known in models.items()
        }

    async def unload(self, name: str, version: int) -> None:
        """Finish its requests and free it; one that is not loaded (a load that failed elsewhere) is no error."""
        served = self._loaded.pop((name, version), None)
        if served is not None:
            await quiesced(served)
            await asyncio.to_thread(served.model.close)

    async def listen(self) -> None:
        """Open the ports."""
        gc.collect()
        gc.freeze()
        try:
            await self.listening.open(self._flags, self.api())
        except StartError as error:
            raise ServingError(Code.INTERNAL, str(error)) from error

    async def measured(self) -> Metrics:
        """What this process has measured."""
        return self._metrics

    async def configure(self, configs: list[config.ModelConfig]) -> None:
        """See Directory: the supervisor's work."""
        await self.peer.call("configure", configs)

    def api(self) -> Api:
        """What the transports answer from."""
        return Api(
            manager=self,
            metrics=self._metrics,
            all_metrics=lambda: self.peer.call("metrics"),
            tensor_content=self._flags.enable_serialization_as_tensor_content,
            check_method_name=self._flags.enable_signature_method_name_check,
        )


async def work(descriptor: int, given: flags.Flags) -> None:
    """Serve until the supervisor closes the socket."""
    worker = Worker(given)
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor))
    worker.peer = Peer(reader, writer, worker.methods)
    await worker.peer.run()
    await worker.listening.stop()


def main() -> None:
    """See the module."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor says when
    given = flags.parse(sys.argv[3:])
    logs.configure(f"worker {sys.argv[2]}: ")
    loading.prepare(given.engine)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(int(sys.argv[1]), given))
    sys.stderr.flush()
    os._exit(0)  # a load or a long run may still be inside the engine in a thread, which Python would wait for


if __name__ == "__main__":
    main()
