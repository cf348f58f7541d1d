"""The record of experiment.serving_performance as Markdown: docs/serving-performance.md. Only arithmetic and words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from experiment.facts import AT_REST

# A server's limit: kind of serving.inprocess, and the call (TorchServe's depends on the encoding).
IN_PROCESS = {
    "torchserve": ("handler", ""),
    "tfserving": ("savedmodel", "tensorflow"),
    "tfserving-embedded": ("savedmodel", "tensorflow"),
    "onnxruntime": ("onnx", "onnxruntime"),
}
WHAT = """\
One server runs at a time, pinned to the cores named above; the load generator has a core of its own. **req/s** is the throughput
of a closed loop with the connections named. **p50** and **p99** are at half of that rate, open loop, from the scheduled time.
**CPU** is the server's, all its processes, over the requests that the server itself counted. **rows/s** is req/s times rows.
A measurement that the load suite calls INVALID is marked `!`: on a machine with other work it must not be quoted
(docs/method.md); ratios within one run are steadier than the figures. **of in process** compares rows/s with the same servable
called without a server; above 1 means larger batches than the 16 of that call, or other work on the core while it was measured.
`?`: the server counted no requests of that kind. `onnxruntime` is a reference: the embedded server's transport, another engine.
"""
OVER_DEFAULT = """\
Over default: throughput over that of default, and CPU a request of default over that of the tuning, which depends less on how
much of the cores other work took.

| server | tuning | protocol | encoding | rows | throughput ratio | CPU ratio |
|---|---|---|---|---|---|---|"""
LEFT = """\
What is left: CPU a request of TorchServe, and the part of it that the handler takes in process. The rest is its front end, the
socket between front end and worker, and the worker's own loop, JSON text to Python objects included. The handler's part is
the most that a faster artifact in the archive (ONNX, say) could save.

| tuning | protocol | encoding | rows | CPU us a request | handler us | rest |
|---|---|---|---|---|---|---|"""


def ratios(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ratios of every other tuning over default: of each server, protocol, encoding and number of rows."""
    found = []
    by_key = {(m["server"], m["tuning"], m["protocol"], m["encoding"], m["rows"]): m for m in measured}
    for (server, tuning, *rest), tuned in by_key.items():
        default = by_key.get((server, "default", *rest))
        if tuning != "default" and default is not None and default["throughput_rps"]:
            protocol, encoding, rows = rest
            ratio = round(tuned["throughput_rps"] / default["throughput_rps"], 2)
            cpu = (default["cpu_us_per_request"], tuned["cpu_us_per_request"])
            entry = {"server": server, "tuning": tuning, "protocol": protocol, "encoding": encoding, "rows": rows, "ratio": ratio}
            found.append({**entry, "cpu_ratio": round(cpu[0] / cpu[1], 2) if all(cpu) else None})
    return found


def render(record: dict[str, Any]) -> str:
    """The whole page."""
    machine, packages = record["environment"]["machine"], record["environment"]["packages"]
    busy = [about["model"] for about in record["models"] if about["machine"] != AT_REST]
    state = (
        f"**The machine was busy with other work** before {', '.join(busy)}"
        if busy
        else "The machine was at rest before each model"
    )
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "torchserve", "onnxruntime") if name in packages)
    every = [m for about in record["models"] for m in about["measured"]]
    implementations = dict.fromkeys(m["implementation"] for m in every)
    lines = [
        f"# Serving performance: {', '.join(about['model'] for about in record['models'])}",
        "",
        f"Written by `{record['command'].strip()}` on {record['created']}; nothing here is edited by hand.",
        "",
        f"- {machine['cpu']}, {machine['usable_cores']} usable cores; servers on cores {record['cores']}. {state}.",
        f"- {versions}. {'; '.join(implementations)}.",
        f"- {_validity(every)}",
        "",
        WHAT,
    ]
    for about in record["models"]:
        lines += _model(about)
    return "\n".join([*lines, "## Settings", "", *_settings(every), ""])


def _validity(measured: list[dict[str, Any]]) -> str:
    num = 2 * len(measured)  # closed, and open at half of it
    invalid = sum(len(m["invalid"]) for m in measured)
    return f"{num - invalid} of {num} measurements are VALID." + (" No figure marked `!` may be quoted." if invalid else "")


def _model(about: dict[str, Any]) -> list[str]:
    limits, measured = about["limits"], about["measured"]
    left_out = [f"Requests of {rows} rows take over a second in process and are left out." for rows in about["rows_left_out"]]
    return [
        f"## {about['model']}",
        "",
        "In process, the limit: the servable alone, on the same cores. `AxB` is A requests of B rows in one call.",
        "",
        "| servable | call | rows/s |",
        "|---|---|---|",
        *_limits(limits),
        "",
        " ".join(["Served:", *left_out]),
        "",
        "| server | tuning | protocol | encoding | rows | connections | req/s | rows/s | p50 ms | p99 ms | CPU us a request"
        " | memory MiB | of in process |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(m, limits) for m in measured),
        "",
        *_section(OVER_DEFAULT, map(_ratio, about["ratios"])),
        *_section(LEFT, (_left(m, limits) for m in measured if m["server"] == "torchserve" and m["tuning"] != "default")),
    ]


def _section(heading: str, rows: Iterable[str]) -> list[str]:
    """Words and the head of a table, and its rows; nothing where there are none."""
    found = list(rows)
    return [heading, *found, ""] if found else []


def _limits(limits: dict[str, Any]) -> list[str]:
    names = {"handler": "TorchServe handler", "savedmodel": "SavedModel", "onnx": "ONNX Runtime"}
    return [
        f"| {names[kind]} | {call} | {rate:,.0f} |"
        for kind, found in limits.items()
        for call, rate in found["rows_per_s"].items()
    ]


def limit_of(m: dict[str, Any], limits: dict[str, Any]) -> float | None:
    """In-process rows a second of the same servable called as the server calls it: in batches of 16 where it batches."""
    kind, call = IN_PROCESS[m["server"]]
    if m["server"] == "torchserve":
        call, batches = "json" if m["encoding"] == "json" else "raw", m["settings"]["batch_size"] > 1
    else:
        batches = m["server"] != "tfserving" or bool(m["settings"].get("batching"))
    requests = 16 if m["rows"] == 1 and batches else 1
    rate: float | None = limits.get(kind, {}).get("rows_per_s", {}).get(f"{call} {requests}x{m['rows']}")
    return rate


def _row(m: dict[str, Any], limits: dict[str, Any]) -> str:
    closed = "!" if "closed" in m["invalid"] else ""
    half = "!" if "server" in m["invalid"] else ""
    limit = limit_of(m, limits)
    rows_per_s = m["throughput_rps"] * m["rows"]
    latency = m["latency_ms"] or {}
    cells = [
        m["server"],
        m["tuning"],
        m["protocol"],
        m["encoding"],
        m["rows"],
        f"{m['connections']:.0f}",
        f"{m['throughput_rps']:,.0f}{closed}",
        f"{rows_per_s:,.0f}{closed}",
        _ms(latency.get("p50")) + half,
        _ms(latency.get("p99")) + half,
        "?" if m["cpu_us_per_request"] is None else f"{m['cpu_us_per_request']:,.0f}",
        f"{m['rss_mib']:,.0f}",
        "" if limit is None else f"{rows_per_s / limit:.2f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _ratio(r: dict[str, Any]) -> str:
    cpu = "?" if r["cpu_ratio"] is None else f"{r['cpu_ratio']:.2f}"
    return f"| {r['server']} | {r['tuning']} | {r['protocol']} | {r['encoding']} | {r['rows']} | {r['ratio']:.2f} | {cpu} |"


def _left(m: dict[str, Any], limits: dict[str, Any]) -> str:
    limit, cpu = limit_of(m, limits), m["cpu_us_per_request"]
    handler = None if limit is None else 1e6 * m["rows"] / limit
    cells = [m["tuning"], m["protocol"], m["encoding"], m["rows"], "?" if cpu is None else f"{cpu:,.0f}"]
    cells += ["?", "?"] if handler is None or cpu is None else [f"{handler:,.0f}", f"{max(0.0, 1 - handler / cpu):.0%}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def _ms(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}"


def _settings(measured: list[dict[str, Any]]) -> list[str]:
    found = {(m["server"], m["tuning"]): m["settings"] for m in measured}
    return [
        f"- {server} {tuning}: " + ", ".join(f"{name} {value}" for name, value in settings.items() if name != "tuning")
        for (server, tuning), settings in found.items()
    ]
