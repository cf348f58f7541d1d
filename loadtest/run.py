"""Load-test the deployed endpoints of a model, or any endpoint on loopback: raw samples, and measurements that are VALID or not.

Runs Locust headless with loadtest/locustfile.py in front of an engine process (loadtest/engine.py). For every server and
protocol: warm-up, `closed` (N connections), `server` (open-loop Poisson at a fraction of that throughput), or the
scenarios asked for. Writes results/<run>/{samples/*.parquet, samples/*.hgrm, summary.json, records/}; an engine that dies
leaves the rows so far in results/<run>.partial/.

For instance:
  python -m loadtest.run --model cnn --protocols rest --scenarios closed --run try
  python -m loadtest.run --scenarios max_qps --slo 20 --profile full
  python -m loadtest.run --url http://127.0.0.1:8000/path --body FILE --expect FILE --scenario server --rate 200 --duration 10
  python -m loadtest.run --grpc 127.0.0.1:8001 --method /package.Service/Method --body FILE --rate 200 --out results/x
Exit codes: 0 all VALID, 3 something INVALID (the summary is written), 2 a user's mistake, 1 a fault
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from faceoff import cli, processes
from faceoff.errors import InvalidError
from loadtest import options as options_module


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The stage; returns run, summary, num_valid and num_invalid. Raises InvalidError after writing the summary."""
    from loadtest import outcome, plan, summary

    options = options_module.from_arguments(args)
    planned = plan.make(options)
    with outcome.replaced(planned.run_dir) as folder:
        code = _run_locust(options, folder)
        outcome.take(folder, code)
    path = planned.run_dir / summary.NAME
    found = summary.read(path)["measurements"]
    summary.table(found)
    invalid = [m for m in found if not m["valid"]]
    if invalid:
        first = f"{invalid[0]['id']}: {invalid[0]['invalid_reasons'][0]}"
        raise InvalidError(f"{len(invalid)} of {len(found)} measurements are INVALID (first: {first}); all are in {path}")
    return {"run": options.run, "summary": str(path), "num_valid": len(found), "num_invalid": 0}


def _run_locust(options: options_module.Options, folder: Path) -> int:
    """Run Locust to its end; everything it prints goes to stderr. Returns its exit code."""
    from loadtest import outcome

    locustfile = Path(__file__).with_name("locustfile.py")
    # Its log and its tables would repeat ours, rounded; --skip-log-setup leaves warnings and errors.
    quiet = ["--headless", "--only-summary", "--skip-log-setup", "--users=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", f"--locustfile={locustfile}", *quiet, *options.arguments()],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env=processes.environment({outcome.FOLDER_VARIABLE: str(folder.resolve())}),
        start_new_session=True,  # Ctrl-C reaches this stage only, which then ends Locust once and lets it clean up
        preexec_fn=processes.die_with_parent,  # noqa: PLW1509  no thread of ours runs
    )
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            processes.stop_tree(process.pid)
            process.wait()


def main(argv: list[str] | None = None) -> int:
    """`python -m loadtest.run`."""
    parser = cli.Parser(prog="python -m loadtest.run", description=__doc__)
    options_module.add_to(parser)
    parser.add_store()
    return cli.run(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
