"""Parity on the wire: every deployed endpoint must give the right outputs, over every protocol and encoding it takes.

Deploy runs `check` before endpoints.json exists: a measurement of a server that answers wrongly must not exist. It sends
every golden row at every batch size, one request after the other, and then distinct requests all at once: a server that
batches and swaps rows answers every single request rightly. Of REQUEST_ONLY, whose answers and batches are another encoding's,
every row goes alone and in the largest batch: the deploy of a large model is little else than this. `check_test_set` sends the
whole test set too, so that the accuracy of what is served is a fact and no inference.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from faceoff import golden, progress
from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError
from faceoff.evaluation import EvaluationSet
from faceoff.golden import Golden
from faceoff.signature import Arrays, Signature
from serving import protocols
from serving.client import AsyncClient, Client, RequestError

CONNECTIONS = 8
NUM_CONCURRENT = 48  # requests, up to CONNECTIONS of them on the way
REQUEST_ONLY = ("b64", "float_val")  # other words for the request of json, of tensor
ROWS = (1, 2, 3)  # of one concurrent request, in turn: batches of unequal parts


def check(
    found: list[Endpoint],
    signature: Signature,
    expected: Golden,
    pictures: Mapping[str, Golden] | None = None,
    encodings: Collection[str] = protocols.ENCODINGS,
) -> list[dict[str, Any]]:
    """Golden rows one request after the other and many at once, in those of `encodings` that a server takes, and the usual ones.

    `pictures` are golden images by their encoding, of a model that takes them. Returns one record a combination. Raises
    FaceoffError for the first wrong answer: one beyond its endpoint's tolerance.
    """
    proven = {*encodings, *protocols.DEFAULT_ENCODING.values()}
    records = []
    for endpoint in found:
        tolerance = endpoint.tolerance
        for protocol, encoding in protocols.encodings(endpoint, signature):
            if encoding not in proven:
                continue
            rows = (pictures or {}).get(encoding, expected)
            with Client(endpoint, signature, protocol=protocol, encoding=encoding) as client:
                short = encoding in REQUEST_ONLY
                for batch_size in (golden.BATCH_SIZES[0], golden.BATCH_SIZES[-1]) if short else golden.BATCH_SIZES:
                    starts = range(0, rows.num_rows, batch_size)
                    largest = max(_answer(client, rows.rows(start, batch_size), start, tolerance)[0] for start in starts)
                    records.append(_record(client, tolerance, largest, batch_size=batch_size, concurrent=1))
                if not short:
                    largest = asyncio.run(_all_at_once(client, rows, tolerance))
                    records.append(_record(client, tolerance, largest, batch_size=max(ROWS), concurrent=CONNECTIONS))
    columns = ["server", "model", "precision", "protocol", "encoding", "rows a request", "at once"]
    columns += ["max |difference|", "tolerance"]
    lines = []
    for r in records:
        request = [r["protocol"], r["encoding"], r["batch_size"], r["concurrent"]]
        lines.append([*_who(r), *request, f"{r['max_abs_difference']:.2g}", f"{r['tolerance']:.2g}"])
    progress.table("Parity on the wire", columns, lines)
    return records


def check_test_set(
    found: list[Endpoint], signature: Signature, test: EvaluationSet, min_accuracy_ratio: float
) -> list[dict[str, Any]]:
    """The whole test set through every server over REST and gRPC, as many rows a request as in the largest golden batch.

    A float32 model's answers are judged one by one. A lower precision is judged by its accuracy, as it was on disk: its
    tolerance is a share of the largest golden output, and a row of the test set may have a larger one. Returns one record a
    server and protocol, with the accuracy beside training's. Raises FaceoffError for a wrong answer, or too low an accuracy.
    """
    records = []
    for endpoint in found:
        tolerance = endpoint.tolerance if endpoint.precision == "float32" else None
        for protocol in ("rest", "grpc"):
            with Client(endpoint, signature, protocol=protocol) as client:
                records.append(_record(client, tolerance, **_evaluate(client, test, tolerance)))
            problem = test.problem(records[-1]["accuracy"], min_accuracy_ratio)
            if tolerance is None and problem:
                raise FaceoffError(f"{endpoint.server} in {endpoint.precision} over {protocol} is too often wrong: {problem}")
    rows = [
        [*_who(r), r["protocol"], r["num_rows"], f"{r['max_abs_difference']:.2g}"]
        + ["-" if r[key] is None else f"{r[key]:.4f}" for key in ("accuracy", "trained_accuracy")]
        for r in records
    ]
    columns = ["server", "model", "precision", "protocol", "rows", "max |difference|", "accuracy on the wire", "in training"]
    progress.table("The test set on the wire", columns, rows)
    return records


def _evaluate(client: Client, test: EvaluationSet, tolerance: float | None) -> dict[str, Any]:
    largest, parts = 0.0, []
    step = golden.BATCH_SIZES[-1]
    for start in range(0, test.rows.num_rows, step):
        rows = test.rows.rows(start, min(step, test.rows.num_rows - start))
        difference, outputs = _answer(client, rows, start, tolerance, what="test rows")
        largest = max(largest, difference)
        parts.append(outputs)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {
        "largest": largest,
        "num_rows": test.rows.num_rows,
        "accuracy": test.accuracy(joined),
        "trained_accuracy": test.trained_accuracy,
    }


def _where(client: Client | AsyncClient, start: int, rows: Golden, what: str = "golden rows") -> str:
    version = "" if client.endpoint.version == 1 else f" version {client.endpoint.version}"
    how = f"{client.codec.route.protocol} ({client.codec.encoding})"
    return f"{client.endpoint.server}{version} over {how}, {what} {start} to {start + rows.num_rows - 1}"


def _answer(client: Client, rows: Golden, start: int, tolerance: float | None, what: str = "golden rows") -> tuple[float, Arrays]:
    """The largest difference of one answer, and the answer. Raises FaceoffError for a wrong one.

    `tolerance` None: names, shapes, types and finiteness are judged, the numbers are not.
    """
    where = _where(client, start, rows, what)
    try:
        answer = client.predict(rows.inputs)
    except RequestError as error:
        raise FaceoffError(f"{where}: {error}") from error
    difference = golden.compare(answer.outputs, rows.outputs, math.inf if tolerance is None else tolerance)
    if difference.problem:
        raise FaceoffError(f"{where} answers wrongly: {difference.problem}")
    return difference.max_abs, answer.outputs


async def _all_at_once(client: Client, expected: Golden, tolerance: float) -> float:
    """Distinct requests over several connections; the largest difference. Raises FaceoffError for another's answer."""
    endpoint, coder = client.endpoint, client.codec
    protocol, encoding = coder.route.protocol, coder.encoding
    async with AsyncClient(endpoint, coder.signature, protocol=protocol, encoding=encoding, connections=CONNECTIONS) as many:

        async def one(start: int, rows: Golden) -> float:
            where = f"{_where(many, start, rows)}, {CONNECTIONS} requests at once"
            try:
                answer = await many.predict(rows.inputs)
            except RequestError as error:
                raise FaceoffError(f"{where}: {error}") from error
            difference = golden.compare(answer.outputs, rows.outputs, tolerance)
            if difference.problem:
                owner = _owner(answer.outputs, expected, tolerance)
                whose = f"; it is the answer to golden row {owner}" if owner is not None else ""
                raise FaceoffError(f"{where} answers wrongly: {difference.problem}{whose}")
            return difference.max_abs

        return max(await asyncio.gather(*(one(start, rows) for start, rows in _distinct(expected))))


def _distinct(expected: Golden) -> Iterator[tuple[int, Golden]]:
    start = 0
    for index in range(NUM_CONCURRENT):
        count = ROWS[index % len(ROWS)]
        yield start % expected.num_rows, expected.rows(start, count)
        start += count


def _owner(outputs: Arrays, expected: Golden, tolerance: float) -> int | None:
    """The golden row whose answer the first row of `outputs` is."""
    first = {name: array[:1] for name, array in outputs.items()}
    rows = range(expected.num_rows)
    return next((i for i in rows if golden.compare(first, expected.rows(i, 1).outputs, tolerance).problem is None), None)


def _who(record: dict[str, Any]) -> list[str]:
    return [record["server"], f"{record['model']}/{record['version']}", record["precision"]]


def _record(client: Client, tolerance: float | None, largest: float, **about: Any) -> dict[str, Any]:
    return {
        "server": client.endpoint.server,
        "model": client.endpoint.model,
        "version": client.endpoint.version,
        "precision": client.endpoint.precision,
        "protocol": client.codec.route.protocol,
        "encoding": client.codec.encoding,
        **about,
        "max_abs_difference": largest,
        "tolerance": tolerance,
        "ok": True,
    }
