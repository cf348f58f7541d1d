"""What must not be believed and why, what was measured twice, and whether the load generator kept up."""

from __future__ import annotations

from report import formats
from report.experiment import Experiment
from report.measurements import Measurement, Window
from report.page import Block, Cell, Column, Heading, Notice, Section, Table, Text
from report.sections import fairness
from report.sections.serving import load, validity


def section(found: list[Measurement], compared: Experiment | None = None) -> Section:
    """Every measurement that is INVALID, every flagged window, the generator's own figures; of a comparison its fairness."""
    invalid = [m for m in found if not m.valid]
    blocks: list[Block] = [
        Text(
            text="A measurement is VALID when only the server can explain it: every answer right, next to no request failed, "
            "the load generator on time and its core not full. A window in which the generator was disturbed is flagged and "
            "measured again; what stays flagged makes the measurement INVALID. INVALID figures are shown, never compared."
        ),
        *([] if compared is None else [*fairness.standing(compared), *fairness.blocks(compared)]),
        Heading(text="INVALID measurements", id="validity-invalid"),
    ]
    if not found:
        blocks.append(Notice(title="This run holds no measurement", tone="bad"))
    elif not invalid:
        blocks.append(Notice(title=f"None: all {len(found)} measurements are VALID", tone="good"))
    blocks += [
        Notice(
            title=f"INVALID: {m.name}, scenario {m.scenario}, {load(m)}",
            items=m.invalid_reasons or ("the load test gave no reason",),
            tone="bad",
        )
        for m in invalid
    ]
    blocks += [Heading(text="Windows that were measured again", id="validity-windows"), _windows(found)]
    if found:
        # of a comparison's visits the one that asked most of the client stands for all of its group
        whose, shown = "of every measurement", found
        if compared is not None:
            whose, shown = "of the visit that asked most of it", [max(g.members, key=_strain) for g in compared.groups]
        blocks += [Heading(text="Could the load generator keep up?", id="validity-generator"), _generator(whose, shown)]
    return Section(id="validity", title="What counts and what does not", short="Validity", blocks=blocks)


def _strain(m: Measurement) -> float:
    """How near the client came to what makes a measurement INVALID: it is late, or its core is full."""
    return float(m.client.get("cpu_percent") or 0) + 100 * float(m.client.get("send_error_p99_ms") or 0)


def _windows(found: list[Measurement]) -> Block:
    rows = [(m, window) for m in found for window in m.windows if window.flags or not window.accepted or _tries(m, window) > 1]
    if not rows:
        total = sum(len(m.windows) for m in found)
        known = f"None of {formats.plural(total, 'window')} was flagged." if total else "The summary lists no windows."
        return Text(text=known)
    return Table(
        caption="Windows that were flagged or repeated",
        columns=(
            Column(title="Measurement"),
            Column(title="Window", numeric=True),
            Column(title="Attempt", numeric=True),
            Column(title="p50, ms", numeric=True),
            Column(title="p99, ms", numeric=True),
            Column(title="Requests/s", numeric=True),
            Column(title="Flags"),
            Column(title="Outcome"),
        ),
        rows=[_window(m, window) for m, window in rows],
        note="Only the last attempt at a window is in the percentiles. Windows and attempts count from 0.",
    )


def _tries(m: Measurement, window: Window) -> int:
    return sum(other.index == window.index for other in m.windows)


def _window(m: Measurement, window: Window) -> tuple[Cell, ...]:
    return (
        _who(m),
        Cell(text=str(window.index)),
        Cell(text=str(window.attempt)),
        Cell(text=formats.number(window.p50_ms)),
        Cell(text=formats.number(window.p99_ms)),
        Cell(text=formats.number(window.throughput_rps)),
        Cell(text="; ".join(window.flags) or "none"),
        _verdict(window),
    )


def _who(m: Measurement) -> Cell:
    visit = f", visit {m.visit}" if m.visit else ""
    return Cell(text=m.series.label, note=f"{m.way}, {m.scenario}{visit}", series=m.series)


def _verdict(window: Window) -> Cell:
    if not window.accepted:
        return Cell(text="repeated", tone="warn")
    return Cell(text="stayed flagged", tone="bad") if window.flags else Cell(text="counts", tone="good")


_CLIENT = (
    ("cpu_us_per_request", "CPU a request, µs"),
    ("cpu_percent", "CPU of its core, %"),
    ("send_error_p99_ms", "Send error p99, ms"),
    ("loop_lag_p99_ms", "Loop lag p99, ms"),
    ("run_queue_percent", "Waited for its core, %"),
    ("steal_percent", "Steal, %"),
)
_CORES = "others_percent"
_SERVER = (("queue", "Server: queue, ms"), ("compute", "Server: compute, ms"))


def _generator(whose: str, found: list[Measurement]) -> Table:
    told = [(key, title) for key, title in _SERVER if any(m.server_ms.get(key) is not None for m in found)]
    return Table(
        caption=f"The client's side {whose}",
        columns=(
            Column(title="Measurement"),
            *(Column(title=title, numeric=True) for _, title in _CLIENT),
            Column(title="Others on the servers' cores, %", numeric=True),
            *(Column(title=title, numeric=True) for _, title in told),
            Column(title="Null server, requests/s", numeric=True),
            Column(title=""),
        ),
        rows=[
            (
                _who(m),
                *(Cell(text=formats.number(m.client.get(key))) for key, _ in _CLIENT),
                Cell(text=formats.number(m.server_use.get(_CORES))),
                *(Cell(text=formats.number(m.server_ms.get(key))) for key, _ in told),
                Cell(text=formats.number(m.null_server.get("capacity_rps"))),
                validity(m),
            )
            for m in found
        ],
        note="Send error: how late a request left after its scheduled time for reasons of the client's own; the guard judges the "
        "open loop by it, the closed loop by the lag of the generator's event loop. Others: what other programs used of the "
        "servers' cores for certain, in the worst window. "
        + (
            "What a server says of itself is its own definition. "
            if told
            else "The servers' own queue and compute times are not recorded. "
        )
        + "Null server: what the generator can send to a server that does nothing (`make loadtest-calibrate`); a load above half "
        "of it is INVALID. – means not measured.",
    )
