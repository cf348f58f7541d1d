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
            return _of(run, summary, compared=(directory / "compare.json").is_file())
    except FaceoffError as error:
        return Row(run=run, kind="damaged", model="", servers="", created="", valid="", tone="bad", verdict=str(error))


def _of(run: str, summary: dict[str, Any], *, compared: bool) -> Row:
    if not summary:
        words = "Nothing was served."
        return Row(run=run, kind="training", model="", servers="", created="", valid="", tone="", verdict=words)
    measured = summary["measurements"]
    servers = sorted({m["server"] for m in measured}, key=identity.rank)
    valid = sum(bool(m["valid"]) for m in measured)
    told = [c for c in summary.get("comparisons") or [] if c.get("kind") == "ab"]
    told.sort(key=lambda c: (c["metric"] != "p99", c["tuning"] != "best", c["protocol"] != "rest"))
    return Row(
        run=run,
        kind="comparison" if compared else "load test",
        model=str(summary.get("model") or ""),
        servers=formats.listed([identity.server(server).label for server in servers]),
        created=str(summary.get("created") or "")[:16].replace("T", " "),
        valid=f"{valid} of {len(measured)} VALID",
        tone="good" if measured and valid == len(measured) else "bad",
        verdict=told[0]["sentence"] if told else "One run gives no verdict.",
    )
