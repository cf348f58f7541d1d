"""Send rows to every deployed endpoint over every protocol and show the answers side by side.

    python -m serving.predict --input digit.npy
    python -m serving.predict --input pictures/ --server torchserve --protocol rest
    cat rows.json | python -m serving.predict --input - --version 2

The input is a .npy, .npz, .json, .png or .jpg file, a folder of them, or - for standard input (serving/inputs.py). The
table is for people; the last line of stdout is the same as JSON: each answer with its classes by name, where the data
set has names, and where two answers differ. Nothing is sent twice; an error says what the server said.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from faceoff import cli, endpoints, manifest, presets, progress
from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError
from faceoff.signature import Arrays, Signature
from serving import inputs
from serving.client import TIMEOUT_S, Client
from serving.protocols import PROTOCOLS

SHOWN_ROWS, SHOWN_VALUES = 20, 12


def predict(args: argparse.Namespace) -> dict[str, Any]:
    """Ask everyone; returns the answers, class and values of each row."""
    presets.model(args.model)
    store = cli.store(args)
    protocols = cli.names(args.protocols, "protocol", "PROTOCOLS", PROTOCOLS)
    if args.timeout <= 0:
        raise UsageError(f"--timeout {args.timeout}: expected seconds, more than 0")
    found = endpoints.read(store, model=args.model, servers=cli.comma_list(args.servers) if args.servers else None)
    found = _of_version(found, args.version)
    record = manifest.read(store.model_dir(args.model), stage="train", command=f"make train MODEL={args.model}")
    signature = Signature.from_dict(record.config["signature"])
    names = (record.config.get("dataset") or {}).get("class_names") or []
    given = inputs.read(args.input, signature)
    answers, outputs = [], []
    for endpoint in found:
        for protocol in protocols:
            with Client(endpoint, signature, protocol=protocol, timeout_s=args.timeout) as client:
                answer = client.predict(given.arrays)
            outputs.append(answer.outputs)
            answers.append(
                {
                    "server": endpoint.server,
                    "version": endpoint.version,
                    "precision": endpoint.precision,
                    "protocol": protocol,
                    **_classes(answer.outputs, names),
                    **{name: array.tolist() for name, array in answer.outputs.items()},
                    "time_ms": round(answer.time_ms, 3),
                }
            )
    spread = _spread(outputs)
    differing = [name for row, name in enumerate(given.names) if len({a["classes"][row] for a in answers if "classes" in a}) > 1]
    _show(args.input, given.names, answers, outputs)
    progress.say(f"predict: largest difference between any two answers {spread:.2g}")
    if differing:
        progress.say(f"predict: the servers disagree about the class of {', '.join(differing)}")
    return {
        "model": args.model,
        "input": args.input,
        "rows": list(given.names),
        "answers": answers,
        "max_abs_difference": spread,
        "rows_with_different_classes": differing,
    }


def _of_version(found: list[Endpoint], version: int | None) -> list[Endpoint]:
    if version is None:
        return found
    chosen = [endpoint for endpoint in found if endpoint.version == version]
    if not chosen:
        versions = sorted({endpoint.version for endpoint in found})
        raise UsageError(f"VERSION={version} of {found[0].model!r} is not deployed: expected one of {versions}")
    return chosen


def _classes(outputs: Arrays, names: list[str]) -> dict[str, Any]:
    """The most likely class of each row, of a classifier: one output with a value a class."""
    first = next(iter(outputs.values()))
    if len(outputs) != 1 or first.ndim != 2 or first.shape[1] != len(names):
        return {}
    return {"classes": [str(names[index]) for index in first.argmax(1)]}


def _spread(outputs: list[Arrays]) -> float:
    """The largest difference between any two answers, over all outputs."""
    if not outputs:
        return 0.0
    stacked = [np.stack([np.asarray(answer[name], np.float64) for answer in outputs]) for name in outputs[0]]
    return max(float((values.max(0) - values.min(0)).max(initial=0.0)) for values in stacked)


def _show(source: str, names: tuple[str, ...], answers: list[dict[str, Any]], outputs: list[Arrays]) -> None:
    rows = []
    for answer, found in zip(answers, outputs, strict=True):
        output, array = next(iter(found.items()))
        values = array[0].ravel()
        text = " ".join(f"{value:.3f}" for value in values[:SHOWN_VALUES]) + (" …" if values.size > SHOWN_VALUES else "")
        shown = ", ".join(answer.get("classes", [])[:SHOWN_ROWS])
        who = [answer[name] for name in ("server", "version", "precision", "protocol")]
        rows.append([*who, shown, text, f"{answer['time_ms']:.2f}"])
    output = next(iter(outputs[0])) if outputs else "output"
    columns = ["server", "version", "precision", "protocol", "class", f"{output} of row 0", "ms"]
    progress.table(f"{source}: {len(names)} row(s)", columns, rows)
    if len(names) > 1 and all("classes" in answer for answer in answers):
        heads = [f"{answer['server']} {answer['version']} {answer['protocol']}" for answer in answers]
        table = [[name, *(answer["classes"][row] for answer in answers)] for row, name in enumerate(names[:SHOWN_ROWS])]
        progress.table("By row", ["row", *heads], table)


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.predict`."""
    parser = cli.Parser(prog="python -m serving.predict", description=__doc__)
    parser.add_model()
    parser.add_argument("--input", required=True, help="a .npy, .npz, .json, .png or .jpg file, a folder, or -")
    parser.add_argument("--servers", "--server", default="", help="comma list; default: every deployed one")
    parser.add_argument("--protocols", "--protocol", default=",".join(PROTOCOLS), help="comma list (default: %(default)s)")
    parser.add_argument("--version", type=cli.positive_int, default=None, help="default: every deployed one")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds for each answer (default: %(default)s)")
    parser.add_store()
    return cli.run(parser, predict, argv)


if __name__ == "__main__":
    raise SystemExit(main())
