"""A SavedModel version as a TensorFlow session callable: the only module that runs TensorFlow (model_onnx.py is its pair).

Loaded as the C++ server does (the v1 loader: graph, variables, init op). Variables are then frozen into
constants, which about halves the cost of a call (docs/decisions/0003-embedded-server.md); the unfrozen session
stays where freezing fails, where tables or other resources remain, or where both disagree on a probe.
Kernels run in the calling thread (`inter_op_thread_pool = -1`): no hand-over for a small model.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from serving.embedded import freeze, warmup
from serving.embedded.errors import Code, ServingError, invalid, not_found
from serving.embedded.loading import LoadOptions
from serving.embedded.signature import Signature, from_proto

__all__ = ["LoadOptions", "LoadedModel", "load"]

log = logging.getLogger(__name__)

MAX_FETCH_SETS = 16  # callables kept for output filters of one signature


class LoadedModel:
    """One version in memory; implements `signature.Runnable`. `run` may be called from several threads."""

    def __init__(self, name: str, version: int, session: Any, signatures: dict[str, Signature], *, frozen: bool) -> None:
        self.name = name
        self.version = version
        self.signatures = signatures
        self.frozen = frozen
        self._session = session
        self._callables: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._natural_batch: dict[str, int] = {}
        self._lock = Lock()

    def run(self, signature: Signature, feeds: Sequence[np.ndarray], outputs: tuple[str, ...]) -> list[np.ndarray]:
        """See Runnable. Whatever TensorFlow objects to keeps its code and its message."""
        import tensorflow as tf

        try:
            fetched = self._callable(signature, outputs)(*feeds)
        except tf.errors.OpError as error:
            raise ServingError(Code(error.error_code), str(error.message)) from error
        except UnicodeDecodeError as error:  # TensorFlow's message holds bytes of the request, and its binding wants text
            raise invalid(bytes(error.object).decode(errors="replace")) from error
        return [as_array(value) for value in fetched]

    def max_natural_batch(self, signature: Signature) -> int:
        """See Runnable; 1 until the warm-up has proved the rows independent."""
        return self._natural_batch.get(signature.name, 1)

    def warm_up(self, options: LoadOptions) -> None:
        """Run every size natural batching may use, so that no request pays for it."""
        for signature in self.signatures.values():
            if signature.inputs and options.warm_up:
                self._natural_batch[signature.name] = warmup.warm(self, signature, options.max_natural_batch)

    def close(self) -> None:
        """Free the session; no run may be under way."""
        self._callables.clear()
        self._session.close()

    def _callable(self, signature: Signature, outputs: tuple[str, ...]) -> Any:
        key = (signature.name, outputs)
        made = self._callables.get(key)
        if made is None:
            with self._lock:
                if sum(name == signature.name for name, _ in self._callables) >= MAX_FETCH_SETS:
                    return self._filtering(signature, outputs)
                made = self._callables[key] = self._make_callable(signature, outputs)
        return made

    def _make_callable(self, signature: Signature, outputs: tuple[str, ...]) -> Any:
        from tensorflow.core.protobuf import config_pb2

        options = config_pb2.CallableOptions()
        options.feed.extend(signature.inputs[alias].tensor for alias in signature.feed_order)
        options.fetch.extend(signature.outputs[alias].tensor for alias in outputs)
        options.run_options.inter_op_thread_pool = -1
        return self._session._make_callable_from_options(options)

    def _filtering(self, signature: Signature, outputs: tuple[str, ...]) -> Any:
        everything = self._callables[(signature.name, signature.output_order)]

        def filtered(*feeds: np.ndarray) -> list[Any]:
            found = dict(zip(signature.output_order, everything(*feeds), strict=True))
            return [found[alias] for alias in outputs]

        return filtered


def as_array(value: Any) -> np.ndarray:
    """What a session hands out as an array; a scalar string comes as bare bytes."""
    if isinstance(value, bytes | str):
        array = np.empty((), object)
        array[()] = value
        return array
    return np.asarray(value)


def load(name: str, version: int, path: Path, options: LoadOptions) -> LoadedModel:
    """Load, freeze and warm up one version folder. Raises ServingError with the real server's code and message."""
    import tensorflow as tf

    _check_file(path)
    v1 = tf.compat.v1
    config = v1.ConfigProto(
        intra_op_parallelism_threads=options.intra_op_threads, inter_op_parallelism_threads=options.inter_op_threads
    )
    graph = tf.Graph()
    try:
        with graph.as_default():
            session = v1.Session(graph=graph, config=config)
            meta_graph = v1.saved_model.loader.load(session, list(options.tags), str(path))
    except tf.errors.OpError as error:
        raise ServingError(Code(error.error_code), str(error.message)) from error
    except (RuntimeError, OSError, ValueError) as error:
        raise not_found(_one_line(error)) from error
    signatures = {key: from_proto(key, meta_graph.signature_def[key]) for key in meta_graph.signature_def}
    model = LoadedModel(name, version, session, signatures, frozen=False)
    model = _frozen(model, config) or model
    for signature in signatures.values():
        if signature.inputs:
            model._callable(signature, signature.output_order)
    try:
        model.warm_up(options)
        if options.replay_requests:
            from serving.embedded import warmup_requests  # needs the stubs, which come after TensorFlow

            warmup_requests.replay(model, path)
    except BaseException:
        model.close()
        raise
    return model


def _frozen(model: LoadedModel, config: Any) -> LoadedModel | None:
    """The model with its variables as constants, or None where it is served as it was loaded."""
    import tensorflow as tf

    used = [signature for signature in model.signatures.values() if signature.inputs]
    tensors = {info.tensor for each in used for info in (*each.inputs.values(), *each.outputs.values())}
    try:
        constant = freeze.frozen_graph(model._session, sorted({tensor.partition(":")[0] for tensor in tensors}))
        if constant is None:
            return None
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(constant, name="")
        session = tf.compat.v1.Session(graph=graph, config=config)
        frozen = LoadedModel(model.name, model.version, session, model.signatures, frozen=True)
        if not all(warmup.agree(model, frozen, signature) for signature in used):
            log.warning("Not frozen: %s version %d answers differently when frozen", model.name, model.version)
            session.close()
            return None
    except Exception as error:  # a converter of many cases: any failure means the graph is served as it is
        log.warning("Not frozen: %s version %d: %s", model.name, model.version, _one_line(error))
        return None
    model.close()
    return frozen


def _check_file(path: Path) -> None:
    """The two faults of a version folder that the real server names, before TensorFlow's own loader sees it."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / "saved_model.pb"
    if not file.is_file():
        if (path / "saved_model.pbtxt").is_file():
            return
        raise not_found(
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. Check that "
            "the directory exists and that you have the right permissions for accessing it."
        )
    try:
        graphs = saved_model_pb2.SavedModel.FromString(file.read_bytes()).meta_graphs
    except DecodeError as error:
        raise ServingError(Code.DATA_LOSS, f"Can't parse {file} as binary proto") from error
    if not graphs:
        raise ServingError(Code.DATA_LOSS, f"Can't parse {file} as binary proto")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
