"""The proof of equality: same start, same batches, same function on disk and on the wire."""

from __future__ import annotations

from typing import Any

from report import formats, identity
from report.figures import equality as figures
from report.identity import Series
from report.page import Block, Cell, Column, Facts, Heading, Notice, Plot, Section, Table, Text, Tone
from report.records import Run, reading

_STATUS: dict[str, Tone] = {"verified": "good", "refused": "bad", "unsupported": "warn"}


def section(run: Run) -> Section:
    """Build the section from training, verify and parity."""
    blocks: list[Block] = [
        Text(
            text="A race between two different functions says nothing. One set of weights is loaded into both frameworks; "
            "every artifact and every answer over the network is then held against the same golden outputs."
        ),
        Heading(text="Same weights, same batches, same logits", id="equality-frameworks"),
        *_frameworks(run),
        Heading(text="Every artifact computes that function", id="equality-artifacts"),
        *_artifacts(run),
        Heading(text="Every server answers it over the wire", id="equality-wire"),
        *_wire(run),
    ]
    return Section(id="equality", title="The proof that both sides are equal", short="Proof of equality", blocks=blocks)


def _frameworks(run: Run) -> list[Block]:
    record = run.get("training")
    if record is None:
        return [Notice(title="No training record", text=run.missing("training"), tone="warn")]
    with reading(run.path("training"), "make train"):
        metrics = record["metrics"]
        source = str(record["config"]["weights"])
        facts = (
            ("Initial weights, sha256", str(metrics["initial_weights_sha256"])),
            ("Batches, sha256", str(metrics["batches_sha256"])),
        )
        rows = [_agreement(str(source), values) for source, values in metrics["agreement"].items()]
    return [
        Text(text="Drawn once, fed to both frameworks:"),
        Facts(title="What both frameworks were given", facts=facts, code=True),
        Table(
            caption="Logits of the two frameworks on the same weights and inputs",
            columns=(
                Column(title="Weights trained by"),
                Column(title="Largest difference", numeric=True),
                Column(title="Tolerance", numeric=True),
                Column(title="Agree"),
            ),
            rows=rows,
            note=f"Served on both sides: the weights that {identity.framework(source).label} trained.",
        ),
    ]


def _agreement(source: str, values: dict[str, Any]) -> tuple[Cell, ...]:
    series, found, tolerance = identity.framework(source), float(values["max_abs_logit_difference"]), float(values["tolerance"])
    return (
        Cell(text=series.label, series=series),
        Cell(text=formats.small(found)),
        Cell(text=formats.small(tolerance)),
        Cell(text="yes", tone="good") if found <= tolerance else Cell(text="NO", tone="bad"),
    )


def _artifacts(run: Run) -> list[Block]:
    record = run.get("verify")
    if record is None:
        return [Notice(title="No verification record", text=run.missing("verify"), tone="warn")]
    with reading(run.path("verify"), "make verify"):
        artifacts: list[dict[str, Any]] = record["metrics"]["artifacts"]
        refused = [a for a in artifacts if a["status"] == "refused"]
        blocks: list[Block] = []
        if refused:
            items = [f"{a['name']}: {a['reason']} (`{a['reproduce']}`)" for a in refused]
            blocks.append(Notice(title="Refused artifacts cannot be deployed", items=items, tone="bad"))
        blocks.append(_artifact_table(run, artifacts))
        checks = [
            figures.Check(
                row=f"{a['name']} · {a['format']}",
                series=identity.framework(a["source"]),
                batch_size=int(check["batch_size"]),
                max_abs_difference=float(check["max_abs_difference"]),
                tolerance=float(a["tolerance"]),
            )
            for a in artifacts
            for check in a.get("checks") or ()
            if check["max_abs_difference"] is not None
        ]
    if checks:
        blocks.append(
            Plot(
                id="plot-artifacts",
                title="Artifacts against the golden outputs",
                figure=figures.differences(checks),
                label=f"Largest difference of each artifact at each batch size on a log axis, between 0 and "
                f"{formats.small(max(c.max_abs_difference for c in checks))}, with the tolerance as a bar.",
                caption="One point for each batch size; the grey bar is the tolerance that every point must stay left of. "
                "An open marker at the left is an exact match (0).",
                legend=_legend(checks),
            )
        )
    return blocks


def _artifact_table(run: Run, artifacts: list[dict[str, Any]]) -> Table:
    export = run.get("export") or {}
    times = {a["file"]: a.get("export_s") for a in export.get("metrics", {}).get("artifacts", []) if "file" in a}
    times |= {a["name"]: a.get("export_s") for a in export.get("metrics", {}).get("artifacts", []) if "name" in a}
    return Table(
        caption="Artifacts, each loaded by its own runtime in its own process",
        columns=(
            Column(title="Artifact"),
            Column(title="Runtime"),
            Column(title="Status"),
            Column(title="Largest difference", numeric=True),
            Column(title="Tolerance", numeric=True),
            Column(title="Batch sizes"),
            Column(title="Size", numeric=True),
            Column(title="Exported in", numeric=True),
        ),
        rows=[
            (
                Cell(text=str(a["name"]), note=_origin(a), series=identity.framework(a["source"])),
                Cell(text=str(a.get("runtime") or formats.NONE)),
                Cell(text=str(a["status"]), tone=_STATUS.get(a["status"], "warn"), note=str(a.get("reason") or "")),
                Cell(text=formats.small(a.get("max_abs_difference"))),
                Cell(text=formats.small(a.get("tolerance"))),
                Cell(text=", ".join(str(check["batch_size"]) for check in a.get("checks") or ()) or formats.NONE),
                Cell(text=formats.size(a.get("size_bytes"))),
                Cell(text=formats.seconds(times.get(a["name"]))),
            )
            for a in artifacts
        ],
        note="" if export else run.missing("export"),
    )


def _origin(artifact: dict[str, Any]) -> str:
    return f"{artifact['format']} from {identity.framework(artifact['source']).label}"


def _wire(run: Run) -> list[Block]:
    record = run.get("parity")
    if record is None:
        return [Notice(title="No record of the answers over the wire", text=run.missing("parity"), tone="warn")]
    with reading(run.path("parity"), "make deploy"):
        raw: list[dict[str, Any]] = record["checks"]
        checks = [
            figures.Check(
                row=f"{_server(c).label} · {identity.way(c['protocol'], c['encoding'])}",
                series=_server(c),
                batch_size=int(c["batch_size"]),
                max_abs_difference=float(c["max_abs_difference"]),
                tolerance=float(c["tolerance"]),
            )
            for c in raw
        ]
        ways: dict[str, list[tuple[figures.Check, bool]]] = {}
        for check, c in zip(checks, raw, strict=True):
            ways.setdefault(check.row, []).append((check, bool(c["ok"])))
        num_rows = record.get("num_rows")
    table = Table(
        caption="Golden inputs through every server, protocol and encoding"
        + (f" ({formats.count(num_rows)} rows)" if num_rows is not None else ""),
        columns=(
            Column(title="Server · protocol · encoding"),
            Column(title="Batch sizes"),
            Column(title="Largest difference", numeric=True),
            Column(title="Tolerance", numeric=True),
            Column(title="Answers"),
        ),
        rows=[
            (
                Cell(text=row, series=mine[0][0].series),
                Cell(text=", ".join(str(check.batch_size) for check, _ in mine)),
                Cell(text=formats.small(max(check.max_abs_difference for check, _ in mine))),
                Cell(text=formats.small(mine[0][0].tolerance)),
                Cell(text="right", tone="good") if all(ok for _, ok in mine) else Cell(text="WRONG", tone="bad"),
            )
            for row, mine in ways.items()
        ],
        note="Encodings differ in what they can carry: JSON prints decimals, a tensor carries the bits.",
    )
    tables: list[Block] = [table, *_test_sets(record)]
    if not checks:
        return tables
    plot = Plot(
        id="plot-wire",
        title="Answers over the wire against the golden outputs",
        figure=figures.differences(checks),
        label="Largest difference of the answers over the wire on a log axis, with the tolerance as a bar.",
        caption="One point for each batch size; the grey bar is the tolerance. An open marker at the left is an exact match (0).",
        legend=_legend(checks),
    )
    return [*tables, plot]


def _test_sets(record: dict[str, Any]) -> list[Table]:
    """Accuracy over the wire beside training's; runs made before deploy sent the test set have none."""
    found: list[dict[str, Any]] = record.get("test_sets") or []
    if not found:
        return []
    rows = [
        (
            Cell(text=f"{_server(c).label} · {c['protocol']}", series=_server(c)),
            Cell(text=formats.count(int(c["num_rows"]))),
            Cell(text=formats.small(float(c["max_abs_difference"]))),
            Cell(text=formats.percent(c["accuracy"], 2)),
            Cell(text=formats.percent(c["trained_accuracy"], 2)),
        )
        for c in found
    ]
    columns = (
        Column(title="Server · protocol"),
        Column(title="Test rows", numeric=True),
        Column(title="Largest difference", numeric=True),
        Column(title="Accuracy over the wire", numeric=True),
        Column(title="In training", numeric=True),
    )
    lower = any(c.get("precision", "float32") != "float32" for c in found)
    note = "A lower precision than float32 is judged by its accuracy, not answer by answer." if lower else ""
    return [Table(caption="The whole test set through every server", columns=columns, rows=rows, note=note)]


def _server(record: dict[str, Any]) -> Series:
    """Runs made before parity's records said their precision were float32."""
    return identity.server(str(record["server"]), str(record.get("precision", "")))


def _legend(checks: list[figures.Check]) -> list[Series]:
    return list(dict.fromkeys(check.series for check in checks))
