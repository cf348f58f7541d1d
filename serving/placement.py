"""Where servers run: which cores, which ports. Checked before anything starts."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from faceoff import cli, cores, progress
from faceoff.errors import UsageError

HOST = "127.0.0.1"
MODES = ("standard", "free")


def choose_cores(text: str, *, share: bool, usable: set[int] | None = None) -> tuple[int, ...]:
    """The servers' cores: all but the generator's, or those that `text` ("0", "0-2,4") lists.

    Raises UsageError for a core that this process may not use, and for the generator's core unless `share` says so.
    """
    split = cores.split(usable)
    known = sorted({*split.servers, *split.generator})
    if not text:
        return split.servers
    found: set[int] = set()
    for part in cli.comma_list(text):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UsageError(f"CORES={text}: found {part!r}, expected core numbers like 0 or 0-2,4")
        found |= set(range(int(first), int(last or first) + 1))
    if not found:
        raise UsageError(f"CORES={text}: found no core, expected core numbers like 0 or 0-2,4")
    if missing := sorted(found - set(known)):
        raise UsageError(f"CORES={text}: core {missing[0]} is not usable here, expected some of {known}")
    taken = sorted(found & set(split.generator))
    if taken and not share and len(known) > 1:
        raise UsageError(
            f"CORES={text}: core {taken[0]} is the load generator's, expected some of {list(split.servers)}; "
            "to share it all the same (no result will be VALID) add SHARE_GENERATOR=1"
        )
    if taken:
        progress.say(f"deploy: core {taken[0]} is shared with the load generator: latencies include its work")
    return tuple(sorted(found))


def choose_ports(wanted: Mapping[str, int], mode: str) -> dict[str, int]:
    """Ports for every use: `standard` ones, `free` ones, or given ones ("tfserving-rest=9000", the others free).

    Standard and given ports are checked to be free. Raises UsageError.
    """
    given = numbers(wanted, mode)
    chosen: dict[str, int] = {}
    held: list[socket.socket] = []
    try:
        for use, number in given.items():
            if number and number in chosen.values():
                other = next(name for name, port in chosen.items() if port == number)
                raise UsageError(f"port {number} is wanted for {other} and for {use}: choose free ones: PORTS=free")
            probe = socket.socket()
            held.append(probe)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
            try:
                probe.bind((HOST, number))
            except OSError as error:
                raise UsageError(
                    f"port {number} ({use}) is in use; stop what holds it, or choose free ones: PORTS=free"
                ) from error
            chosen[use] = probe.getsockname()[1]
    finally:
        for probe in held:
            probe.close()
    return chosen


def numbers(wanted: Mapping[str, int], mode: str) -> dict[str, int]:
    """Every use with its number, 0 for any; those with a number first, so that no free one takes it. Raises UsageError."""
    if mode in MODES:
        return {use: number if mode == "standard" else 0 for use, number in wanted.items()}
    if "=" not in mode:
        raise UsageError(f"unknown ports {mode!r}: expected standard, free, or a list like tfserving-rest=9000 (set PORTS=...)")
    names = {use.replace(" ", "-"): use for use in wanted}
    given: dict[str, int] = {}
    for part in cli.comma_list(mode):
        name, _, number = part.partition("=")
        if name not in names:
            raise UsageError(f"PORTS={mode}: found {name!r}, expected one of {', '.join(sorted(names))}")
        if names[name] in given:
            raise UsageError(f"PORTS={mode}: found {name!r} twice, expected each once")
        if not number.isdecimal() or not 1 <= int(number) <= 65535:
            raise UsageError(f"PORTS={mode}: found {part!r}, expected a port from 1 to 65535")
        given[names[name]] = int(number)
    return given | {use: 0 for use in wanted if use not in given}
