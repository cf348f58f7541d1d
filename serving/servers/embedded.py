"""The embedded server as a server under test: our Python server behind TF Serving's API, in a process of its own.

Its numbers are never TensorFlow Serving's: the name `tfserving-embedded` goes with them everywhere.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

from faceoff.endpoints import Endpoint
from serving import metrics, running
from serving.embedded.metrics import SETTINGS_METRIC
from serving.running import Compute
from serving.servers.tfserving import FlagTable, TfServingApi


class Embedded(TfServingApi):
    """`python -m serving.embedded`, which takes TF Serving's own flags."""

    name = "tfserving-embedded"
    standard_ports: ClassVar = {"tfserving grpc": 8500, "tfserving rest": 8501}
    schema: ClassVar = {**TfServingApi.schema, "flags": FlagTable(supported_here=True)}

    @classmethod
    def check(cls) -> None:
        """Nothing to find: set-up installed all it needs."""

    @classmethod
    def compute(cls, endpoint: Endpoint) -> Compute:
        """As it tells on its monitoring page."""
        assert endpoint.metrics_url is not None
        told = metrics.read(endpoint.metrics_url).labels(SETTINGS_METRIC)
        processes = int(told["processes"])
        return Compute(
            pids=running.tree(endpoint.pids[0])[1:] if processes > 1 else tuple(endpoint.pids),
            artifact=cls.artifact_of(endpoint),
            instances=processes,
            intra_op_threads=int(told["intra_op_threads"]),
            inter_op_threads=int(told["inter_op_threads"]),
            batching=told["batching"],
            max_batch=int(told["max_batch_rows"]),
            batch_unit="rows",
            max_batch_delay_ms=int(told["max_batch_delay_micros"]) / 1e3,
        )

    @classmethod
    def waiting(cls, endpoint: Endpoint) -> int | None:
        """None is left: it finishes what it has accepted."""
        return 0

    def program(self) -> list[str]:
        """The same interpreter as ours."""
        return [sys.executable, "-m", "serving.embedded"]

    def implementation(self) -> str:
        """Said so that nobody takes it for the real one."""
        try:
            installed = version("tensorflow-cpu")
        except PackageNotFoundError:
            installed = version("tensorflow")
        return f"tfserving-embedded (Python, not TensorFlow Serving), TensorFlow {installed}"
