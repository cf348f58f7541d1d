"""What the site's list says of each run, from its summary alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faceoff.errors import FaceoffError
from faceoff.store import Store
from report import formats, identity, records
from report.page import Tone


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run. `verdict` is its first sentence, or why there is none."""

    run: str
    kind: str
    model: str
    servers: str
    created: str
    valid: str
    tone: Tone
    verdict: str


def rows(store: Store, runs: Sequence[str]) -> list[Row]:
    """A row for each run; one that cannot be read says so in its own."""
    return [_row(store, run) for run in runs]


def _row(store: Store, run: str) -> Row:
    directory = store.run_dir(run)
    path = directory / "summary.json"
    try:
        summary = records.load(run, directory).summary
        with records.reading(path, f"make loadtest RUN={run}"):
            return _of(run, summary, records.optional(directory / "compare.json", dict, f"make compare RUN={run}"))
    except FaceoffError as error:
        return Row(run=run, kind="damaged", model="", servers="", created="", valid="", tone="bad", verdict=str(error))


def _of(run: str, summary: dict[str, Any], compared: dict[str, Any] | None) -> Row:
    if not summary:
        words = "Nothing was served."
        return Row(run=run, kind="training", model="", servers="", created="", valid="", tone="", verdict=words)
    measured = summary["measurements"]
    servers = sorted({m["server"] for m in measured}, key=identity.rank)
    valid = sum(bool(m["valid"]) for m in measured)
    told = [c for c in summary.get("comparisons") or [] if c.get("kind") == "ab"]
    told.sort(key=lambda c: (c["metric"] != "p99", c["tuning"] != "best", c["protocol"] != "rest"))
    words = told[0]["sentence"] if told else "One run gives no verdict."
    refused = (compared or {}).get("invalid_reasons") or []
    return Row(
        run=run,
        kind="load test" if compared is None else "comparison",
        model=str(summary.get("model") or ""),
        servers=formats.listed([identity.server(server).label for server in servers]),
        created=str(summary.get("created") or "")[:16].replace("T", " "),
        valid=f"{valid} of {len(measured)} VALID",
        tone="good" if measured and valid == len(measured) and not refused else "bad",
        verdict=f"INVALID: {refused[0]}" if refused else words,
    )
