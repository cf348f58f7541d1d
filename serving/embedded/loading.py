"""What runs the models of a process, whichever engine it is: TensorFlow (model.py) or ONNX Runtime (model_onnx.py)."""

from __future__ import annotations

import concurrent.futures
import importlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.embedded.batcher import MAX_NATURAL_BATCH, Batcher, NaturalBatcher
from serving.embedded.config import BatchingConfig
from serving.embedded.metrics import Metrics
from serving.embedded.session_batcher import BatchThreads, SessionBatcher

if TYPE_CHECKING:
    from serving.embedded.flags import Flags

log = logging.getLogger(__name__)

MODULES = {"tensorflow": "serving.embedded.model", "onnxruntime": "serving.embedded.model_onnx"}
ONNX_FILE = "model.onnx"


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How every version is loaded. Threads: 0 is the engine's own choice, one a core."""

    tags: tuple[str, ...] = ("serve",)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    max_natural_batch: int = MAX_NATURAL_BATCH
    warm_up: bool = True
    replay_requests: bool = True


def set_defaults(engine: str) -> None:
    """The environment that the engine starts with, where nobody has set it."""
    if engine == "tensorflow":
        os.environ.setdefault(
            "TF_ENABLE_ONEDNN_OPTS", "1"
        )  # off by default on some processors; the largest gain there at 32 rows
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def prepare(engine: str) -> None:
    """Import TensorFlow where it is the engine: before serving.tfs_stubs, whose light stand-in must not take its name."""
    if engine != "tensorflow":
        return
    import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)
    log.info("TensorFlow %s, oneDNN %s", tf.__version__, os.environ["TF_ENABLE_ONEDNN_OPTS"])


class Engine:
    """Loads versions and puts a batcher in front of each. Made inside the event loop."""

    def __init__(self, flags: Flags, batching: BatchingConfig | None, metrics: Metrics) -> None:
        self._module = importlib.import_module(MODULES[flags.engine])
        self._options = LoadOptions(
            tags=tuple(flags.saved_model_tags.split(",")),
            intra_op_threads=flags.intra_op_threads,
            inter_op_threads=flags.inter_op_threads,
            replay_requests=flags.enable_model_warmup,
        )
        self._metrics = metrics
        num_threads = max(4, 2 * (os.cpu_count() or 1), batching.num_batch_threads if batching else 0)
        self._runs = concurrent.futures.ThreadPoolExecutor(max_workers=num_threads, thread_name_prefix="run")
        self._threads = BatchThreads(batching, self._runs) if batching else None

    def load(self, name: str, version: int, path: Path) -> Any:
        """A loaded version. Blocks. Raises ServingError."""
        return self._module.load(name, version, path, self._options)

    def batcher(self, loaded: Any) -> Batcher:
        """What schedules the runs of a loaded version."""
        if self._threads is not None:
            return SessionBatcher(loaded, self._threads, self._metrics.ran)
        return NaturalBatcher(loaded, self._runs, observer=self._metrics.ran)
