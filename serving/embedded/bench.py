"""What the embedded server's decisions rest on, measured: the call into TensorFlow, and padding. (The server: serving.bench.)

    python -m serving.embedded.bench --model_base_path=/abs/model [call] [padding]

In: a base path whose newest version has a `serving_default` signature with one float32 input. Out: a table on
stderr, one line of JSON on stdout. Figures of one run on one machine: compare lines of one run with each other, nothing
else. They are not results of a comparison of servers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from faceoff import cli

KINDS = ("call", "padding")
ROWS = (1, 8, 32)
Table = dict[str, dict[str, float]]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see the module."""
    parser = cli.Parser(prog="python -m serving.embedded.bench", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--model_base_path", type=Path, required=True, help="folder with numeric version folders")
    return cli.run(parser, bench, argv)


def bench(args: argparse.Namespace) -> dict[str, Any]:
    """Run the chosen measurements."""
    with cli.quiet_tensorflow():  # oneDNN on, as in the server
        import tensorflow  # noqa: F401  its start-up log only
    found = _in_process(args.model_base_path, args.kinds)
    for kind, table in found.items():
        for name, row in table.items():
            shown = "  ".join(f"{column} {value:.0f}" for column, value in row.items())
            print(f"{kind:8s} {name:24s} {shown}", file=sys.stderr)  # noqa: T201  a table for people
    return found


def _best(run: Callable[[], object], repeats: int, rounds: int = 5) -> float:
    """Microseconds a call in the best of `rounds`."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(repeats):
            run()
        times.append((time.perf_counter() - started) / repeats)
    return min(times) * 1e6


def _in_process(base: Path, kinds: Sequence[str]) -> dict[str, Table]:
    import gc

    import numpy as np
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2

    from serving.embedded import model as models
    from serving.embedded import versions, warmup
    from serving.embedded.batcher import padded_rows
    from serving.embedded.loading import LoadOptions

    version, folder = max(versions.folders(base).items())
    loaded = models.load("bench", version, folder, LoadOptions())
    signature = loaded.signatures["serving_default"]
    gc.collect()
    gc.freeze()
    inputs = {rows: warmup.feeds(signature, rows) or [] for rows in range(1, 65)}
    found: dict[str, Table] = {}
    if "call" in kinds:
        table: Table = {}
        with tf.Graph().as_default() as graph:
            plain = tf.compat.v1.Session(graph=graph)
            tf.compat.v1.saved_model.loader.load(plain, ["serve"], str(folder))
        concrete = tf.saved_model.load(str(folder)).signatures["serving_default"]
        alias = signature.feed_order[0]
        given = {rows: {alias: tf.constant(inputs[rows][0])} for rows in ROWS}
        table["signature function"] = {f"{rows}_rows_us": _best(partial(concrete, **given[rows]), 50) for rows in ROWS}
        for name, session in (("unfrozen", plain), ("frozen" if loaded.frozen else "as served", loaded._session)):
            for pool, number in (("thread pool", 0), ("calling thread", -1)):
                options = config_pb2.CallableOptions()
                options.feed.extend(signature.inputs[key].tensor for key in signature.feed_order)
                options.fetch.extend(signature.outputs[key].tensor for key in signature.output_order)
                options.run_options.inter_op_thread_pool = number
                call = session._make_callable_from_options(options)
                table[f"{name}, {pool}"] = {f"{rows}_rows_us": _best(partial(call, *inputs[rows]), 50) for rows in ROWS}
        found["call"] = table
    if "padding" in kinds:
        sizes = np.random.default_rng(0).integers(1, 33, 200).tolist()
        table = {}
        for name, pad in (
            ("exact size", lambda rows: rows),
            ("power of two", lambda rows: 1 << (rows - 1).bit_length()),
            ("and halfway", padded_rows),
        ):

            def runs(pad: Callable[[int], int] = pad) -> None:
                for rows in sizes:
                    loaded.run(signature, inputs[pad(rows)], signature.output_order)

            runs()
            table[name] = {"row_us": _best(runs, 1) / sum(sizes)}
        found["padding"] = table
    return found


if __name__ == "__main__":
    raise SystemExit(main())
