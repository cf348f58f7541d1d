"""What is measured: an address, a pool of encoded requests, and what tells a right answer from a wrong one."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from faceoff import cli
from faceoff.endpoints import Endpoint
from faceoff.errors import UsageError
from faceoff.golden import Golden
from faceoff.signature import Signature
from loadtest.answers import Decode, Problem, against_golden
from serving.protocols import codec

# Set in the manifests of k8s/base/locust and nowhere else: the servers' Services, which load may be sent to beside loopback.
HOSTS = "FACEOFF_LOAD_HOSTS"


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The distinct requests, as bytes. `encode_us` is what encoding one took, mean, in microseconds."""

    payloads: tuple[bytes, ...]
    encode_us: float | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """One server over one protocol in one encoding, and the scenarios it is measured in.

    `pool` encodes the requests (before any clock starts); `problem` None: no answer is judged. `decode`: what a
    client does with an answer. A lower precision than float32 and `rows` beyond 1 are part of its name.
    """

    endpoint: Endpoint
    protocol: str
    encoding: str
    host: str
    port: int
    path: str
    content_type: str
    pool: Callable[[], Pool]
    problem: Problem | None
    decode: Decode | None = None
    scenarios: tuple[str, ...] = ()
    num_rows: int = 1

    @property
    def name(self) -> str:
        """E.g. torchserve-rest-json, torchserve-rest-json-8rows, or torchserve-bf16-rest-json."""
        precision = "" if self.endpoint.precision in ("", "float32") else f"-{self.endpoint.precision}"
        rows = "" if self.num_rows == 1 else f"-{self.num_rows}rows"
        return f"{self.endpoint.server}{precision}-{self.protocol}-{self.encoding}{rows}"


def deployed(
    endpoint: Endpoint,
    signature: Signature,
    golden: Golden,
    *,
    protocol: str,
    encoding: str,
    num_rows: int,
    scenarios: tuple[str, ...],
) -> Target:
    """A target of an endpoint that deploy started. Raises UsageError for an encoding that it does not speak."""
    chosen = codec(endpoint, signature, protocol, encoding)
    host, port = destination(chosen.route.target)

    def pool() -> Pool:
        payloads, costs = [], []
        chosen.encode(golden.rows(0, num_rows).inputs)  # the first call makes what the others find: it is not in the mean
        for row in range(golden.num_rows):
            inputs = golden.rows(row, num_rows).inputs
            before = time.perf_counter_ns()
            payloads.append(chosen.encode(inputs))
            costs.append(time.perf_counter_ns() - before)
        return Pool(payloads=tuple(payloads), encode_us=sum(costs) / len(costs) / 1000)

    return Target(
        endpoint=endpoint,
        protocol=protocol,
        encoding=chosen.encoding,
        host=host,
        port=port,
        path=chosen.route.path,
        content_type=chosen.route.content_type,
        pool=pool,
        problem=against_golden(chosen, golden, endpoint.tolerance, num_rows),
        decode=lambda body: chosen.decode(body, num_rows),
        scenarios=scenarios,
        num_rows=num_rows,
    )


def destination(target: str) -> tuple[str, int]:
    """Address and port of `host:port`: this machine's loopback, or a name that HOSTS lists. Raises UsageError for any other."""
    parts = urlsplit(f"//{target}")
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"target {target!r}: {error}; expected host:port") from error
    if port and host in allowed_hosts():
        return _address(host), port
    host = "127.0.0.1" if host == "localhost" else host
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local or not port:
        raise UsageError(f"target {target!r}: expected a port on loopback (127.0.0.1); load is sent nowhere else")
    return host, port


def allowed_hosts() -> list[str]:
    """The names in HOSTS. Raises UsageError for one that could be of another place than the own namespace of a cluster."""
    named = cli.comma_list(os.environ.get(HOSTS, ""))
    for name in named:
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
            raise UsageError(f"{HOSTS}: found {name!r}, expected names of Services, without a dot; load is sent nowhere else")
    return named


def _address(host: str) -> str:
    """The engine connects to addresses: a name is looked up once, before anything is measured."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise UsageError(f"{host!r} of {HOSTS}: {error.strerror or error}; expected a Service of this namespace") from error
