"""The calls of the API on arrays and specs, whatever protocol they came by: predict, status, metadata.

Transport modules turn bytes into these and the results into bytes. The order of checks, codes and messages is
the real server's (predict_util.cc, server_core.cc), as recorded in tests/contract.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from serving.embedded import dtypes
from serving.embedded.directory import Directory, Served
from serving.embedded.errors import Code, ServingError, invalid
from serving.embedded.metrics import Metrics
from serving.embedded.signature import DEFAULT_SIGNATURE, Signature
from serving.embedded.versions import ModelSpec


@dataclass(kw_only=True)
class Api:
    """What both transports hold: the models, the metrics and the switches that change answers."""

    manager: Directory
    metrics: Metrics = field(default_factory=Metrics)
    all_metrics: Callable[[], Awaitable[Metrics]] | None = None  # of every process, where there are several
    tensor_content: bool = False
    check_method_name: bool = False

    async def metrics_page(self) -> bytes:
        """The monitoring page."""
        return (await self.all_metrics() if self.all_metrics else self.metrics).page()


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Named outputs and what the answer's ModelSpec says."""

    model: str
    version: int
    signature: str
    outputs: Mapping[str, np.ndarray]


def signature_for_predict(served: Served, name: str) -> Signature:
    """The signature of a Predict call. Raises ServingError(FAILED_PRECONDITION)."""
    name = name or DEFAULT_SIGNATURE
    signature: Signature | None = served.model.signatures.get(name)
    if signature is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return signature


async def predict(
    api: Api,
    spec: ModelSpec,
    served: Served,
    signature: Signature,
    inputs: Mapping[str, np.ndarray],
    *,
    output_filter: Sequence[str] = (),
    method: str = "Predict",
) -> Prediction:
    """Run one request. `method` is for the metrics. Raises ServingError."""
    feeds = _feeds(signature, inputs)
    outputs = _outputs(signature, output_filter)
    started = time.perf_counter()
    arrays = await served.batcher.submit(signature, feeds, outputs)
    api.metrics.runtime_latency.add(spec.name, method, "TF1", value=(time.perf_counter() - started) * 1e6)
    return Prediction(
        model=spec.name,
        version=served.model.version,
        signature=signature.name,
        outputs=dict(zip(outputs, arrays, strict=True)),
    )


def check_input_names(signature: Signature, names: Sequence[str]) -> None:
    """The set of inputs, before any tensor is looked at. Raises ServingError(INVALID_ARGUMENT)."""
    if len(names) != len(signature.inputs):
        sent, known = set(names), set(signature.inputs)
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)} len({{{_join(sent)}}}) != len({{{_join(known)}}}). "
            f"Sent extra: {{{_join(sent - known)}}}. Missing but required: {{{_join(known - sent)}}}."
        )
    for alias, info in signature.inputs.items():
        if alias not in names:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {info.tensor}) not found in request and no default value provided. "
                f"Inputs expected to be in the request {{{_join(names)}}}, or default input alias set: "
            )


def _feeds(signature: Signature, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    check_input_names(signature, list(inputs))
    feeds = [inputs[alias] for alias in signature.feed_order]
    for index, (alias, array) in enumerate(zip(signature.feed_order, feeds, strict=True)):
        wanted = signature.inputs[alias].dtype
        if array.dtype != wanted.numpy:
            sent = dtypes.by_numpy(array.dtype)
            raise invalid(f"Expects arg[{index}] to be {wanted.name} but {sent.name} is provided")
    return feeds


def _outputs(signature: Signature, output_filter: Sequence[str]) -> tuple[str, ...]:
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_join(signature.outputs)}}}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return tuple(output_filter) or signature.output_order


def _join(names: object) -> str:
    return ",".join(sorted(names))  # type: ignore[call-overload]
