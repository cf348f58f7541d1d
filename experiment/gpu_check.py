"""What works on this machine's NVIDIA GPU: runs the tests marked gpu and writes a page that says which ran.

`python -m experiment.gpu_check` (`make gpu-check`) writes benchmarks/gpu-check_<gpu>_<date>.md: every test with its outcome and,
where it was skipped, why (Compose's, where Docker has no NVIDIA runtime), and the environment. Without a GPU: exit code 2.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceoff import cli, devices, environment, progress
from faceoff.errors import FaceoffError
from faceoff.processes import ROOT
from faceoff.store import write_atomic

OUTCOMES = {"failure": "FAILED", "error": "FAILED", "skipped": "not run"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One test: `ok`, `FAILED` or `not run`, with the reason."""

    name: str
    result: str
    reason: str
    duration_s: float


def gpu_check(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the page and the counts. Raises UsageError without a GPU, FaceoffError (after the page) where a test failed."""
    devices.resolve("cuda")
    gpu = environment.gpus()[0]["name"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", f"--junitxml={report}"]
        subprocess.run(argv, cwd=ROOT, stdout=sys.stderr, check=False)
        if not report.exists():
            raise FaceoffError("pytest wrote no report; see above")
        found = outcomes(report.read_text(encoding="utf-8"))
    day = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    name = re.sub(r"[^A-Za-z0-9]+", "-", gpu).strip("-").lower()
    path = args.out / f"gpu-check_{name}_{day}.md"
    write_atomic(path, page(gpu, day, found, environment.record()))
    progress.table("GPU check", ["test", "result", "why"], [[one.name, one.result, one.reason] for one in found])
    counts = {result: sum(one.result == result for one in found) for result in ("ok", "FAILED", "not run")}
    if counts["FAILED"] or not counts["ok"]:
        raise FaceoffError(f"{counts['FAILED']} of {len(found)} GPU tests failed, {counts['ok']} passed; see {path}")
    return {"page": str(path), "num_ok": counts["ok"], "num_not_run": counts["not run"]}


def outcomes(report: str) -> list[Outcome]:
    """The tests of a JUnit report."""
    found = []
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314  our own pytest wrote it
        said = next((child for child in case if child.tag in OUTCOMES), None)
        found.append(
            Outcome(
                name=str(case.get("name")),
                result="ok" if said is None else OUTCOMES[said.tag],
                reason="" if said is None else " ".join(str(said.get("message")).split())[:200],
                duration_s=float(case.get("time", "nan")),
            )
        )
    return found


def page(gpu: str, day: str, found: list[Outcome], record: dict[str, Any]) -> str:
    """The page's Markdown."""
    rows = [f"| {one.name} | {one.result} | {one.duration_s:.0f} | {one.reason.replace('|', '/')} |" for one in found]
    machine, packages = record["machine"], record["packages"]
    gpus = [f"{one['name']} ({one['memory_bytes'] / 2**30:.0f} GiB, driver {one['driver']})" for one in machine["gpus"]]
    facts = [
        f"- GPUs: {', '.join(gpus)}",
        f"- CPU: {machine['cpu']}, {machine['usable_cores']} usable cores",
        f"- Packages: {', '.join(f'{name} {version}' for name, version in sorted(packages.items()))}",
        f"- Revision: {record['git']}",
    ]
    head = [
        f"# GPU check: {gpu}, {day}",
        "",
        "Written by `make gpu-check`. It says what works; nothing here is a measurement of speed.",
        "",
    ]
    table = ["| test | result | seconds | why |", "|---|---|---|---|", *rows, ""]
    return "\n".join([*head, *table, *facts]) + "\n"


def main(argv: list[str] | None = None) -> int:
    """`python -m experiment.gpu_check`."""
    parser = cli.Parser(prog="python -m experiment.gpu_check", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the page (default: %(default)s)")
    return cli.run(parser, gpu_check, argv)


if __name__ == "__main__":
    raise SystemExit(main())
