"""Locust in front: its command line, Web UI, CSV, HTML and exit code; the truth is measured behind it.

    locust -f loadtest/locustfile.py --headless --model cnn --protocols rest      (from the project's root)
    python -m loadtest.run --model cnn                                            (the stage; runs this headless)

    locust -f loadtest/locustfile.py --headless --master --expect-workers 2 ...   (loadtest/distributed.py)

One User drives the windows through an engine process and replays every accepted row into `events.request`, so that
Locust shows them. Locust rounds its percentiles; figures to quote are in results/<run>/summary.json. Locust's exit code
is 0 when all is VALID, 3 when a measurement is INVALID, 2 for a user's mistake, 1 for a fault.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# Locust runs this file by path and puts its folder on sys.path; our packages are one level up. This is the one place.
_ROOT = str(Path(__file__).resolve().parent.parent)
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

import gevent  # noqa: E402
from locust import User, events, task  # noqa: E402
from locust.exception import StopUser  # noqa: E402
from locust.runners import MasterRunner, WorkerRunner  # noqa: E402
from locust.stats import CSV_STATS_INTERVAL_SEC  # noqa: E402

from faceoff import progress  # noqa: E402
from faceoff.errors import UsageError  # noqa: E402
from loadtest import distributed, options, outcome  # noqa: E402


class RequestFailedError(Exception):
    """An answer with an error status, or none at all."""


class WrongAnswerError(Exception):
    """A successful answer that is not the expected one."""


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: Any) -> None:
    """Add ours to Locust's; Locust wants the argument to be called parser."""
    options.add_to(parser.add_argument_group("Faceoff", "what is measured; Locust's -u, -r and -t do not change it"), locust=True)


def _until_written(environment: Any) -> float:
    """Seconds until `--csv`'s writer has seen the last row: it wakes at an interval and does not write once more at the end."""
    return 2.0 * CSV_STATS_INTERVAL_SEC if environment.parsed_options.csv_prefix else 0.0


@events.init.add_listener  # type: ignore[untyped-decorator]
def collect(environment: Any, **_: Any) -> None:
    """On a master: one user for each worker, whose files are merged here."""
    if not isinstance(environment.runner, MasterRunner):
        return
    parsed = environment.parsed_options
    Driver.fixed_count = parsed.num_users = parsed.expect_workers

    def end() -> None:
        gevent.spawn_later(_until_written(environment), environment.runner.quit)

    collector = distributed.Collector(environment, lambda: options.from_arguments(parsed, locust=True), end)
    environment.events.test_start.add_listener(lambda **_: gevent.spawn(collector.watch))


class Driver(User):
    """The one user of a test, or of a worker."""

    fixed_count = 1

    @task
    def measure(self) -> None:
        """Run the whole load test, then end Locust."""
        try:
            chosen = options.from_arguments(self.environment.parsed_options, locust=True)
        except UsageError as error:  # only the Web UI's form can hold such a value
            progress.say(f"load test: {error}")
            self.environment.process_exit_code = error.exit_code
        else:
            if isinstance(self.environment.runner, WorkerRunner):  # the master says when Locust ends
                num_workers = self.environment.parsed_options.expect_workers
                distributed.work(self.environment.runner, chosen, num_workers, self._replay)
                raise StopUser()
            result = outcome.produce(chosen, folder=os.environ.get(outcome.FOLDER_VARIABLE), on_window=self._replay)
            self.environment.process_exit_code = result.exit_code
        gevent.spawn_later(_until_written(self.environment), self._end)
        raise StopUser()

    def _end(self) -> None:
        runner = self.environment.runner
        if runner is None:
            return
        if self.environment.web_ui is None:
            runner.quit()
        else:
            runner.stop()

    def _replay(self, measurement: Any, attempt: Any, rows: Any) -> None:
        ok = rows.ok
        for index in range(len(rows)):
            error: Exception | None = None
            if not ok[index]:
                error = RequestFailedError(outcome.describe_status(measurement.target.protocol, int(rows.status[index])))
            elif rows.correct[index] == 0:
                error = WrongAnswerError("the answer is not the expected one")
            self.environment.events.request.fire(
                request_type=measurement.target.protocol,
                name=measurement.id,
                response_time=float(rows.done_ns[index] - rows.scheduled_ns[index]) / 1e6,
                response_length=int(rows.bytes_in[index]),
                exception=error,
                context={},
                response=None,
                url=None,
            )
