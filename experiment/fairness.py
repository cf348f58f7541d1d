"""Whether both sides of a comparison had the same: presets/fairness.yaml against the facts of every visit.

A rule's verdict is `equal`, `differs`, `declared` (it differs, and this difference is what the comparison studies) or `unknown`
(a side could not be read). `differs` and `unknown` make the run INVALID. A side that changed from visit to visit differs from
itself, whatever is declared; and what is to be at rest differs from rest where both sides were busy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import yaml

from experiment.facts import AT_REST
from faceoff import presets, progress

PATH = presets.PRESETS / "fairness.yaml"
EXPECTED = {"other_load": AT_REST}  # being alike is not enough: both sides must be this

Verdict = Literal["equal", "differs", "declared", "unknown"]
Facts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule on one pair of servers. `a` and `b` are what was found; under `visits` where a side's visits differ."""

    name: str
    reason: str
    tuning: str
    server_a: str
    server_b: str
    a: Any
    b: Any
    verdict: Verdict
    declared_because: str | None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in compare.json."""
        return asdict(self)


def check(tuning: str, a: tuple[str, Sequence[Facts]], b: tuple[str, Sequence[Facts]]) -> list[Finding]:
    """Every rule on two servers, each with the facts of its visits."""
    (server_a, visits_a), (server_b, visits_b) = a, b
    data = _read()
    found = []
    for name, reason in data["rules"].items():
        values_a, values_b = _values(visits_a, name), _values(visits_b, name)
        because = next(
            (d["because"] for k, d in data["declared"].items() if k in (tuning, "always") and name in d["facts"]), None
        )
        verdict: Verdict = "equal"
        if None in values_a or None in values_b:
            verdict = "unknown"
        elif len(values_a) > 1 or len(values_b) > 1 or EXPECTED.get(name, values_a[0]) != values_a[0]:
            verdict = "differs"
        elif values_a != values_b:
            verdict = "differs" if because is None else "declared"
        found.append(
            Finding(
                name=name,
                reason=reason,
                tuning=tuning,
                server_a=server_a,
                server_b=server_b,
                a=_shown(values_a),
                b=_shown(values_b),
                verdict=verdict,
                declared_because=because if verdict == "declared" else None,
            )
        )
    return found


def reasons(findings: Sequence[Finding]) -> list[str]:
    """Why the run is INVALID, in whole sentences; [] for a fair one."""
    found = []
    for f in findings:
        expected = f", expected {EXPECTED[f.name]}" if f.name in EXPECTED else ""
        differs = f"{f.name} differs: {f.a} at {f.server_a}, {f.b} at {f.server_b}{expected}"
        texts = {"differs": differs, "unknown": f"{f.name} could not be read of both"}
        if f.verdict in texts:
            found.append(f"fairness ({f.tuning}): {texts[f.verdict]}. {f.reason}")
    return found


def table(findings: Sequence[Finding]) -> None:
    """Show every rule on stderr, with both sides and the verdict."""
    rows = [[f.tuning, f.name, f"{f.a}", f"{f.b}", f.verdict.upper() if f.verdict != "equal" else "equal"] for f in findings]
    names = f"{findings[0].server_a} / {findings[0].server_b}" if findings else ""
    progress.table(f"Fairness: {names}", ["tuning", "what", "a", "b", "verdict"], rows)
    for finding in {f.declared_because: f for f in findings if f.declared_because}.values():
        progress.say(f"declared, {finding.tuning}: {finding.declared_because}")


def rules() -> dict[str, str]:
    """The facts that must be equal, each with its reason."""
    return dict(_read()["rules"])


@cache
def _read() -> dict[str, Any]:
    return dict(yaml.safe_load(PATH.read_text(encoding="utf-8")))


def _values(visits: Sequence[Facts], name: str) -> list[Any]:
    """The different values of a fact over the visits, in order; [None] where there are no visits."""
    found: list[Any] = []
    for facts in visits:
        value = facts.get(name)
        if value not in found:
            found.append(value)
    return found or [None]


def _shown(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else {"visits": values}
