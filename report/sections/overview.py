"""The top of the page: who ran against whom, how much of it counts, and why there is no winner yet."""

from __future__ import annotations

from report import formats, identity
from report.experiment import Experiment
from report.measurements import Measurement
from report.page import Block, Card, Cards, Cell, Column, Facts, Notice, Section, Table
from report.records import Run, reading
from report.sections import fairness, verdict
from report.sections.context import UNKNOWN, Context

NO_VERDICT = "One run gives no verdict."
WHY_NO_VERDICT = (
    "The figures describe this run only: the differences between servers have no noise floor to be held against. "
    "A verdict needs both sides repeated in random order and a server measured against itself: `make compare` does that."
)
NOT_TF_SERVING = (
    "`tfserving-embedded` is this project's own Python server that speaks TensorFlow Serving's API. "
    "It is not TensorFlow Serving (Google's `tensorflow_model_server`), and its numbers say nothing about "
    "TensorFlow Serving's speed."
)
NOT_ONE_PRECISION = "The servers computed in different precisions"
WHY_ONE_PRECISION = (
    "Fewer bits are less work: a difference of speed between a server in float32 and one in a lower precision is no merit of the "
    "server. What the precision costs in right answers stands under the test set through every server."
)


def title(context: Context) -> str:
    """The page's title."""
    return " against ".join(context.server_labels) or "No server measured"


def subtitle(run: Run, context: Context) -> str:
    """One line under it."""
    return f"Model {context.model} on data set {context.dataset} · run {run.name} · {context.created}"


def lead(run: Run, context: Context, found: list[Measurement], compared: Experiment | None) -> list[Block]:
    """What stands before the first section: a comparison's verdict first, one load test's figures."""
    cards = Cards(cards=_cards(run, found))
    blocks: list[Block] = [cards, _verdict(run)]
    if compared is not None:  # whether it counts, then what it says
        blocks = [*fairness.invalid(compared), *verdict.lead(compared), cards]
    if len({m.precision for m in found if m.precision}) > 1:
        blocks.append(Notice(title=NOT_ONE_PRECISION, text=WHY_ONE_PRECISION, tone="warn"))
    if context.embedded:
        blocks.append(Notice(title="Not TensorFlow Serving", text=NOT_TF_SERVING, tone="warn"))
    glance = at_a_glance(run, found) if compared is None else None
    if glance:
        blocks.append(glance)
    return blocks


def compared(run: Run, context: Context) -> Section:
    """What was compared, on what machine."""
    blocks: list[Block] = [
        Facts(
            title="What was compared",
            facts=(
                ("Model", context.model),
                ("Data set", _dataset(run, context)),
                ("Servers", formats.listed(list(context.server_labels))),
                ("Machine", context.machine),
                ("Measured", context.created),
                ("Source", context.commit),
            ),
        )
    ]
    endpoints = run.get("endpoints")
    if endpoints is None:
        blocks.append(Notice(title="No record of the servers", text=run.missing("endpoints"), tone="warn"))
    else:
        with reading(run.path("endpoints"), "make deploy"):
            blocks.append(_servers(endpoints))
    return Section(id="compared", title="What was compared", short="What was compared", blocks=blocks)


def at_a_glance(run: Run, found: list[Measurement]) -> Table | None:
    """The few figures people look for, side by side where they are comparable; what is INVALID has no figure here."""
    accuracies = _accuracies(run)
    kinds = {(m.protocol != "rest", m.encoding, m.num_rows_per_request, identity.rank(m.server)): m for m in found}
    if not any(m.valid for m in found):
        return None
    rows = []
    for _, kind in sorted(kinds.items(), key=lambda item: item[0]):
        shut, free = (_like(kind, [m for m in found if m.scenario == scenario]) for scenario in ("closed", "server"))
        rows.append(
            (
                Cell(text=kind.series.label, note=kind.way + _rows(kind), series=kind.series),
                _figure(shut, shut.throughput_rps if shut else None),
                _figure(free, free.load_value if free else None),
                _percentile(free, "p50"),
                _percentile(free, "p99"),
                Cell(text=formats.percent(accuracies.get((kind.server, kind.protocol)), 2)),
            )
        )
    return Table(
        caption="At a glance (VALID measurements only; compare servers within one protocol and encoding)",
        columns=(
            Column(title="Server, protocol · encoding"),
            Column(title="Closed loop, requests/s", numeric=True),
            Column(title="Open loop, offered/s", numeric=True),
            Column(title="Open loop p50, ms", numeric=True),
            Column(title="Open loop p99, ms", numeric=True),
            Column(title="Right on the test set", numeric=True),
        ),
        rows=rows,
        note=f"{_offered(run, found)} The small figures are 95% intervals.",
    )


def _accuracies(run: Run) -> dict[tuple[str, str], float | None]:
    """Over the wire, by server and protocol, of what was measured; {} where deploy did not send the test set."""
    measured = {(m["server"], m["model"], m.get("version")) for m in run.summary["measurements"]}
    with reading(run.path("parity"), "make deploy"):
        sent = (run.get("parity") or {}).get("test_sets") or []
        return {(c["server"], c["protocol"]): c["accuracy"] for c in sent if (c["server"], c["model"], c["version"]) in measured}


def _rows(m: Measurement) -> str:
    return f" · {m.num_rows_per_request} rows a request" if m.num_rows_per_request != 1 else ""


def _offered(run: Run, found: list[Measurement]) -> str:
    """How the open loop's rates were chosen: without that its latencies are easily misread."""
    config = run.summary.get("config") or {}
    if (config.get("options") or {}).get("rate") is not None:
        return "Every server is offered the same rate."
    share = (config.get("profile") or {}).get("rate_fraction")
    part = formats.percent(share, 0) if share else "a fraction"
    own = f"Each server is offered {part} of its own closed-loop throughput"
    told = f"{own}: open-loop latencies are at equal relative load, not at an equal rate."
    doubtful = any(m.valid and m.scenario == "server" and not _base_is_valid(m, found) for m in found)
    return f"{told} Where the closed loop is INVALID the rate stands, but not what share it is." if doubtful else told


def _base_is_valid(m: Measurement, found: list[Measurement]) -> bool:
    base = _like(m, [other for other in found if other.scenario == "closed"])
    return base is None or base.valid


def _like(kind: Measurement, among: list[Measurement]) -> Measurement | None:
    """The first measurement of the same server, protocol, encoding and rows a request."""
    wanted = (kind.server, kind.way, kind.num_rows_per_request)
    return next((m for m in among if (m.server, m.way, m.num_rows_per_request) == wanted), None)


def _figure(m: Measurement | None, value: float | None) -> Cell:
    """A figure of a VALID measurement, or why there is none."""
    return Cell(text="INVALID", tone="bad") if m and not m.valid else Cell(text=formats.number(value))


def _percentile(m: Measurement | None, name: str) -> Cell:
    found = m.percentile(name) if m and m.valid else None
    if found is None:
        return _figure(m, None)
    return Cell(text=formats.number(found.value_ms), note=formats.interval(found.low_ms, found.high_ms))


def _cards(run: Run, found: list[Measurement]) -> list[Card]:
    valid, errors, wrong = (sum(getattr(m, name) for m in found) for name in ("valid", "num_errors", "num_wrong"))
    cards = [
        Card(
            label="Measurements VALID",
            value=f"{valid} of {len(found)}",
            note="every INVALID one is listed with its reasons" if valid < len(found) else "repeated windows are listed below",
            tone="good" if found and valid == len(found) else "bad",
        ),
        Card(
            label="Requests measured",
            value=formats.count(sum(m.num_requests for m in found)),
            note=f"{formats.count(errors)} failed, {formats.count(wrong)} answered wrongly",
            tone="bad" if errors or wrong else "good",
        ),
    ]
    verify, parity = run.get("verify"), run.get("parity")
    if verify is not None:
        with reading(run.path("verify"), "make verify"):
            artifacts = verify["metrics"]["artifacts"]
            refused = [a for a in artifacts if a["status"] == "refused"]
            proven = [a for a in artifacts if a["status"] == "verified"]
            # a lower precision differs by nature and is held to its accuracy
            exact = [a["max_abs_difference"] for a in proven if a.get("precision", "float32") == "float32"]
            largest, lower = max(exact, default=None), len(proven) - len(exact)
        cards.append(
            Card(
                label="Artifacts verified",
                value=f"{len(proven)} of {len(artifacts)}",
                note=f"largest difference {formats.small(largest)}" + (f" in float32; {lower} in less" if lower else ""),
                tone="bad" if refused or not proven else "good",
            )
        )
    else:
        cards.append(Card(label="Artifacts verified", value=formats.NONE, note="no record in this run", tone="warn"))
    if parity is not None:
        with reading(run.path("parity"), "make deploy"):
            checks = parity["checks"]
            right = sum(bool(check["ok"]) for check in checks)
        cards.append(
            Card(
                label="Right over the wire",
                value=f"{right} of {len(checks)}",
                note="golden inputs through every server and protocol",
                tone="good" if checks and right == len(checks) else "bad",
            )
        )
    else:
        cards.append(Card(label="Right over the wire", value=formats.NONE, note="no record in this run", tone="warn"))
    return cards


def _verdict(run: Run) -> Block:
    """The comparisons' sentences, or why there are none."""
    comparisons = run.summary.get("comparisons") or []
    if not comparisons:
        return Notice(title=NO_VERDICT, text=WHY_NO_VERDICT, tone="info")
    with reading(run.directory / "summary.json", "make compare"):
        return Notice(title="The verdict", items=[str(comparison["sentence"]) for comparison in comparisons], tone="info")


def _dataset(run: Run, context: Context) -> str:
    training = run.get("training")
    if training is None:
        return context.dataset
    with reading(run.path("training"), "make train"):
        about = training["config"]["dataset"]
        shape = " × ".join(str(n) for n in about["input_shape"])
        return (
            f"{about['name']}: {formats.count(about['num_train'])} training and "
            f"{formats.count(about['num_test'])} test examples, "
            f"{shape}, {len(about['class_names'])} classes"
            f" ({about.get('source', UNKNOWN)})"
        )


def _servers(endpoints: list[dict[str, object]]) -> Table:
    return Table(
        caption="Servers under test",
        columns=(
            Column(title="Server"),
            Column(title="Implementation"),
            Column(title="Serves"),
            Column(title="Device"),
            Column(title="Settings"),
        ),
        rows=[
            (
                Cell(text=_server(e).label, series=_server(e)),
                Cell(text=str(e.get("implementation", UNKNOWN))),
                Cell(text=f"{e['model']} version {e['version']}", note=str(e.get("artifact_format", ""))),
                Cell(text=str(e.get("device", UNKNOWN))),
                Cell(text=_settings(e.get("settings"))),
            )
            for e in endpoints
        ],
        note="These are the settings each server was started with, not tuned ones, unless the run says otherwise.",
    )


def _server(endpoint: dict[str, object]) -> identity.Series:
    return identity.server(str(endpoint["server"]), str(endpoint.get("precision", "")))


def _settings(settings: object) -> str:
    if not isinstance(settings, dict) or not settings:
        return formats.NONE
    return ", ".join(
        f"{name} {'not set' if value is None else value}"
        for name, value in settings.items()
        if not isinstance(value, dict | list)
    )
