"""The lines on stderr: "2026-01-02 03:04:05.678: I tfserving-embedded: text", the level as TensorFlow Serving's lines have it."""

from __future__ import annotations

import logging
import sys

from serving.embedded import NAME


def configure(prefix: str = "") -> None:
    """Log to stderr from now on; `prefix` before every text."""
    for level, letter in ((logging.INFO, "I"), (logging.WARNING, "W"), (logging.ERROR, "E")):
        logging.addLevelName(level, letter)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=f"%(asctime)s.%(msecs)03d: %(levelname)s {NAME}: {prefix}%(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
