"""What runs now. `python -m serving.status` says for each deployed server, asking the server itself:

ready, the models and versions and their state, the implementation and its version, the settings in force as the
server reports them, memory, CPU, requests so far (its own metrics), and the last line of a fault in its logs. A
server that has died is shown as dead, with its last words.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from faceoff import cli, endpoints, progress
from faceoff.endpoints import Endpoint
from faceoff.errors import FaceoffError
from serving import logs, running, state
from serving.owned import Owned
from serving.servers import server_class

CPU_WINDOW_S = 0.25


def status(args: argparse.Namespace) -> dict[str, Any]:
    """One record for each server of the last deploy; [] when nothing is deployed."""
    store = cli.store(args)
    deployed = endpoints.read(store) if store.endpoints.exists() else []
    owned = state.read(store)
    before = [usage(process)["cpu_s"] for process in owned]
    started = time.monotonic()
    if owned:
        time.sleep(CPU_WINDOW_S)
    records = []
    for process, cpu_s in zip(owned, before, strict=True):
        used = usage(process)
        used["cpu_percent"] = max(0.0, 100.0 * (used["cpu_s"] - cpu_s) / (time.monotonic() - started))
        records.append(_record(process, [e for e in deployed if e.server == process.server], used))
    _show(records)
    return {"servers": records}


def _record(owned: Owned, found: list[Endpoint], used: dict[str, float]) -> dict[str, Any]:
    kind, alive = server_class(owned.server), owned.alive()
    log_files = kind.log_files(Path(owned.log).parent)
    models = []
    for endpoint in found:
        ready = alive and kind.is_ready(endpoint)
        models.append(
            {
                "model": endpoint.model,
                "version": endpoint.version,
                "ready": ready,
                "settings": kind.reported(endpoint) if alive else {},
                "metrics": _metrics(endpoint) if alive else None,
                "running": _running(endpoint) if alive else None,
            }
        )
    first = found[0] if found else None
    counts = _requests(models)
    return {
        "server": owned.server,
        "running": alive,
        "ready": bool(models) and all(model["ready"] for model in models),
        "model": first.model if first else None,
        "version": first.version if first else None,
        "models": models,
        "implementation": first.implementation if first else None,
        "rest_url": first.rest_url if first else None,
        "grpc_target": first.grpc_target if first else None,
        "started_with": first.settings if first else None,
        "requests": counts,
        "pid": owned.pid,
        "log": owned.log,
        "fault": logs.last_fault(log_files),
        "last_words": None if alive else logs.last_words(Path(owned.log)),
        **used,
    }


def _metrics(endpoint: Endpoint) -> dict[str, float | None] | None:
    try:
        return server_class(endpoint.server).metrics(endpoint).to_dict()
    except FaceoffError as error:
        progress.say(f"status: {error}")
        return None


def _running(endpoint: Endpoint) -> dict[str, Any] | None:
    try:
        return asdict(server_class(endpoint.server).running(endpoint))
    except FaceoffError as error:
        progress.say(f"status: {error}")
        return None


def _requests(models: list[dict[str, Any]]) -> float | None:
    """Of the server: TF Serving's page tells no versions of a model apart, so each model counts once there."""
    found: dict[tuple[Any, ...], float] = {}
    for entry in models:
        if entry["metrics"] and entry["metrics"]["requests"] is not None:
            by_version = "modelVersion" in entry["settings"]
            found[(entry["model"], entry["version"] if by_version else None)] = entry["metrics"]["requests"]
    return sum(found.values()) if found else None


def usage(owned: Owned) -> dict[str, float]:
    """RSS and CPU seconds of the process and its descendants."""
    cpu_s, rss_bytes = running.usage(running.tree(owned.pid)) if owned.alive() else (0.0, 0)
    return {"rss_mib": rss_bytes / 2**20, "cpu_s": cpu_s}


def _show(records: list[dict[str, Any]]) -> None:
    if not records:
        progress.say("status: nothing is deployed")
        return
    rows = [
        [
            r["server"],
            "yes" if r["ready"] else "no" if r["running"] else "DEAD",
            ", ".join(f"{m['model']}/{m['version']}" for m in r["models"]),
            r["rest_url"],
            f"{r['rss_mib']:.0f}",
            f"{r['cpu_s']:.1f}",
            f"{r['cpu_percent']:.0f}",
            "?" if r["requests"] is None else f"{r['requests']:.0f}",
        ]
        for r in records
    ]
    progress.table("Servers", ["server", "ready", "models", "REST", "RSS MiB", "CPU s", "CPU %", "requests"], rows)
    for r in records:
        progress.say(f"{r['server']}: {r['implementation']}")
        for m in r["models"]:
            settings = ", ".join(f"{name}={value}" for name, value in m["settings"].items())
            progress.say(f"  {m['model']}/{m['version']} in force: {settings or 'not reported'}")
            if r["running"]:
                progress.say(f"  {m['model']}/{m['version']} runs: {_sentence(m['running']) if m['running'] else '?'}")
        if r["fault"]:
            progress.say(f"  last fault: {r['fault']}")
        if r["last_words"]:
            progress.say(f"  last words: {r['last_words']}")


def _sentence(now: dict[str, Any]) -> str:
    """One line of `Running`; what the server does not tell is a question mark."""
    compute = {name: "?" if value is None else value for name, value in now["compute"].items()}
    return (
        f"{compute['instances']} instances of {compute['intra_op_threads']} threads, batching {compute['batching']} "
        f"(up to {compute['max_batch']} {compute['batch_unit']}, {compute['max_batch_delay_ms']} ms), "
        f"cores {list(now['cores'])}, {now['num_threads']} threads in {len(now['pids'])} processes, {now['allocator']}, "
        f"artifact {compute['artifact']}, "
        f"warmed by {now['warmup_requests']}, "
        + (" ".join(f"{name}={value}" for name, value in now["environment"].items()) or "no environment of note")
    )


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.status`."""
    parser = cli.Parser(prog="python -m serving.status", description=__doc__)
    parser.add_store()
    return cli.run(parser, status, argv)


if __name__ == "__main__":
    raise SystemExit(main())
