"""`python -m serving.embedded --port=8500 --rest_api_port=8501 --model_name=cnn --model_base_path=/abs/dir`.

In: TensorFlow Serving's flags (`--help` lists them). Out: log lines on stderr, the two ports, exit code 0 after SIGTERM
or SIGINT, 255 where it cannot start.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

from serving.embedded import NAME, flags, logs


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, import TensorFlow, serve; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        parsed = flags.parse(arguments)
    except flags.FlagError as error:
        print(f"{NAME}: {error}", file=sys.stderr, flush=True)  # noqa: T201  before there is a log
        return flags.EXIT_REFUSED
    if parsed.help or parsed.version:
        print(flags.usage() if parsed.help else _version())  # noqa: T201  asked for
        return 0
    logs.configure()
    return _serve(parsed, arguments)


def _serve(parsed: flags.Flags, arguments: Sequence[str]) -> int:
    log = logging.getLogger(__name__)
    from serving.embedded import loading, server

    try:
        server.check_ports(parsed)
    except server.StartError as error:
        log.error("%s", error)
        return flags.EXIT_REFUSED
    log.info("This is %s, a Python server of TensorFlow Serving's API; it is not TensorFlow Serving", NAME)
    for name in flags.accepted_without_effect(parsed):
        log.warning("--%s is accepted and has no effect here", name)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the import: no stack trace; the event loop takes over later
    loading.set_defaults(parsed.engine)
    if parsed.processes == 1:  # else it is the workers that run models
        loading.prepare(parsed.engine)
    code = server.main(parsed, arguments)
    logging.shutdown()
    # A load or a long run may still be inside TensorFlow in a thread, which Python would wait for.
    sys.stderr.flush()
    os._exit(code)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for package in ("tensorflow_cpu", "tensorflow"):
        try:
            return f"{NAME} (Faceoff)\nTensorFlow Library: {version(package)}"
        except PackageNotFoundError:
            continue
    return f"{NAME} (Faceoff)\nTensorFlow Library: not installed"


if __name__ == "__main__":
    raise SystemExit(main())
