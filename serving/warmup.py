"""Warm-up by count: so many requests to each endpoint at deploy, and how many went through, on record.

A fresh JVM uses several times the CPU a request, and a server that compiles or plans for a batch size does it at
the first one. `warmup_requests` of presets/servers says how many; 0 leaves a server as it starts. The requests
keep WIDTH connections busy, so that a server that batches meets its batch sizes; half go over each protocol. A model of
100 ms a request is warm long before a fast one's thousands: each protocol ends after `LIMIT_S`, and the count is what was sent.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from faceoff import progress
from faceoff.endpoints import Endpoint
from faceoff.servables import Trained
from serving.client import Client
from serving.protocols import PROTOCOLS

WIDTH = 16
LIMIT_S = 30.0


def warmed(endpoint: Endpoint, trained: Trained, *, limit_s: float = LIMIT_S) -> Endpoint:
    """Send the warm-up; returns the endpoint with `warmed_up` (the count) among its settings. Raises RequestError."""
    wanted = int(endpoint.settings.get("warmup_requests") or 0)
    if not wanted:
        return endpoint
    each, sent = wanted // len(PROTOCOLS), 0
    for protocol in PROTOCOLS:
        left, deadline = itertools.count(), time.monotonic() + limit_s

        def work(protocol: str = protocol, left: itertools.count[int] = left, deadline: float = deadline) -> int:
            done = 0
            with Client(endpoint, trained.signature, protocol=protocol) as client:
                while (number := next(left)) < each and time.monotonic() < deadline:
                    client.predict(trained.golden.rows(number, 1).inputs)
                    done += 1
            return done

        with ThreadPoolExecutor(WIDTH) as pool:
            sent += sum(future.result() for future in [pool.submit(work) for _ in range(WIDTH)])
    short = f" of {wanted}: {limit_s:g} s a protocol were up" if sent < each * len(PROTOCOLS) else ""
    progress.say(f"deploy: warmed {endpoint.server} {endpoint.model}/{endpoint.version} with {sent} requests{short}")
    return replace(endpoint, settings={**endpoint.settings, "warmed_up": sent})
