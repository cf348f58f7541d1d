"""The complete environment and the commands that reproduce the run."""

from __future__ import annotations

import json
import shlex
from typing import Any

from report.experiment import Experiment
from report.measurements import Measurement
from report.page import Block, Code, Section, Text
from report.records import Run
from report.sections.context import Context

OF_EACH = "Cores, seed and settings of every measurement"
_PLACES = ("artifacts", "results", "run")  # where files lie, which is not what was measured


def section(run: Run, context: Context, found: list[Measurement], compared: Experiment | None = None) -> Section:
    """Commands first, then every environment record behind a fold."""
    blocks: list[Block] = [
        Text(text="On a machine like this one, from a checkout of the source revision above, these commands repeat the run:"),
        Code(text=commands(run, context, found, compared), label="Commands that reproduce this run"),
        *(Code(text=json.dumps(data, indent=2, ensure_ascii=False), label=label, fold=True) for label, data in _records(run)),
    ]
    return Section(id="environment", title="Reproduce it", short="Reproduce it", blocks=blocks)


def commands(run: Run, context: Context, found: list[Measurement], compared: Experiment | None = None) -> str:
    """The commands of every stage, with the values this run was made with."""
    training = run.get("training") or {}
    config = training.get("config") or {}
    model = f"MODEL={shlex.quote(context.model)}"
    profile = config.get("profile")
    given = _given(DATASET=(config.get("dataset") or {}).get("name"), WEIGHTS=config.get("weights"), PROFILE=profile)
    made = [" ".join(["make train", model, *given]), f"make export {model}", f"make verify {model}"]
    lines = [
        *([] if _own(run) else made),
        *(_load_test(run, context) if compared is None else [_compare(compared, context, found)]),
    ]
    commit = (run.summary.get("environment") or training.get("environment") or {}).get("git") or {}
    return "\n".join([*([f"git checkout {shlex.quote(str(commit['commit']))}"] if commit.get("commit") else []), *lines])


def _compare(compared: Experiment, context: Context, found: list[Measurement]) -> str:
    """The experiment is one command: its seed decides the order of the visits, the arrivals and the tuner's proposals."""
    given = _given(
        SERVERS=",".join(context.servers),
        PROTOCOLS=",".join(dict.fromkeys(m.protocol for m in found)),
        PROFILE=compared.raw["profile"],
        SEED=compared.raw["seed"],
        DEVICE=(compared.raw.get("options") or {}).get("device"),
    )
    return " ".join(["make compare", f"MODEL={shlex.quote(context.model)}", *given, f"RUN={compared.run.name}"])


def _load_test(run: Run, context: Context) -> list[str]:
    """With every option it was given: make has no variable for some of them."""
    options, own = _options(run), _own(run)
    deploy = ["make deploy", f"MODEL={shlex.quote(context.model)}", *_given(SERVERS=",".join(context.servers))]
    given = {name: value for name, value in options.items() if name not in _PLACES and value not in (None, "")}
    flags = [f"--{name.replace('_', '-')}={shlex.quote(str(value))}" for name, value in given.items()]
    load = " ".join([".venv/bin/python -m loadtest.run", *flags, f"--run={run.name}"])
    return [*([] if own else [" ".join(deploy)]), load, f"make report RUN={run.name}", *([] if own else ["make undeploy"])]


def _options(run: Run) -> dict[str, Any]:
    return (run.summary.get("config") or {}).get("options") or {}


def _own(run: Run) -> bool:
    """Whether an endpoint of the user's own was measured, which is not ours to train or deploy."""
    return bool(_options(run).get("url") or _options(run).get("grpc"))


def _given(**values: Any) -> list[str]:
    return [f"{name}={shlex.quote(str(value))}" for name, value in values.items() if value]


def _records(run: Run) -> list[tuple[str, Any]]:
    """Every environment of the run; equal ones once."""
    found: list[tuple[str, Any]] = []
    candidates = [("load test", run.summary.get("environment"))]
    candidates += [(record, run.get(record).get("environment")) for record in ("training", "export", "verify") if run.get(record)]
    for name, data in candidates:
        if not data:
            continue
        same = next((index for index, (_, other) in enumerate(found) if other == data), None)
        if same is None:
            found.append((name, data))
        else:
            found[same] = (f"{found[same][0]}, {name}", data)
    keys = ("cores", "endpoint", "seed", "server_settings_sha256")
    settings = {str(m["id"]): {key: m.get(key) for key in keys} for m in run.summary["measurements"]}
    labelled = [(f"Complete environment: {name}", data) for name, data in found]
    asked = [("Configuration of the load test", run.summary["config"])] if run.summary.get("config") else []
    return [*labelled, *asked, (OF_EACH, settings)]
