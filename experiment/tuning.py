"""The best settings of one server: so many trials, each a visit, proposed by Optuna from a declared space.

The first trial is the server's preset `tuned`; every axis of the space is a departure from it (presets/compare.yaml). A trial is
worth the throughput of a closed loop, the geometric mean over the protocols; one that is INVALID, or whose server does not start,
is worth nothing but is spent all the same. The winner is confirmed by the visits that follow, never by its own trial.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faceoff import progress
from faceoff.store import write_atomic
from serving.servers import server_class

AS_TUNED = "as tuned"
MAX_REPEATED = 50  # proposals in a row that were tried already: the space is taken to be exhausted

Space = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a visit says of its settings. `value` None: not to be believed, for these reasons."""

    value: float | None
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial. `choices` names the alternative on each axis, `settings` are the changes to the preset that they make."""

    number: int
    choices: dict[str, str]
    settings: dict[str, Any]
    value: float | None
    valid: bool
    reasons: list[str]

    @property
    def name(self) -> str:
        """Its departures in words."""
        changed = [f"{axis} {choice}" for axis, choice in self.choices.items() if choice != AS_TUNED]
        return ", ".join(changed) or AS_TUNED


def search(
    server: str, space: Space, *, trials: int, seed: int, measure: Callable[[int, Mapping[str, Any]], Outcome]
) -> list[Trial]:
    """Spend `trials` on `measure(number, settings)`; fewer only when the space has no more combinations."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(dict.fromkeys(space, AS_TUNED))
    found: dict[tuple[str, ...], Trial] = {}
    repeated = 0
    while len(found) < trials and repeated < MAX_REPEATED:
        asked = study.ask()
        choices = {axis: asked.suggest_categorical(axis, [AS_TUNED, *alternatives]) for axis, alternatives in space.items()}
        key = tuple(choices.values())
        known = found.get(key)
        if known is None:
            number = len(found) + 1
            settings = merged(space, choices)
            outcome = measure(number, settings)
            known = found[key] = Trial(
                number=number,
                choices=choices,
                settings=settings,
                value=outcome.value,
                valid=outcome.value is not None,
                reasons=outcome.reasons,
            )
            worth = "no value" if known.value is None else f"{known.value:.0f} requests/s"
            progress.say(f"tuning {server}: trial {number} of {trials}, {known.name}: {worth}")
            repeated = 0
        else:
            repeated += 1
        if known.value is None:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(asked, known.value)
    return list(found.values())


def offered(server: str, space: Space, formats: Collection[str]) -> Space:
    """The space without artifacts that were not exported: TorchServe's `artifact: onnx` needs the format `mar-onnx`."""
    form = server_class(server).servable_format
    return {
        axis: kept
        for axis, alternatives in space.items()
        if (kept := {n: s for n, s in alternatives.items() if "artifact" not in s or form(s) in formats})
    }


def winner(trials: list[Trial]) -> Trial:
    """The valid trial of the highest value; the preset, when no trial is valid."""
    return max(trials, key=lambda trial: trial.value or 0.0)


def merged(space: Space, choices: Mapping[str, str]) -> dict[str, Any]:
    """The settings that the chosen alternatives change, together; tables of the same name are merged."""
    found: dict[str, Any] = {}
    for axis, choice in choices.items():
        for name, value in space[axis].get(choice, {}).items():
            both = isinstance(value, dict) and isinstance(found.get(name), dict)
            found[name] = {**found[name], **value} if both else value
    return found


def write(path: Path, server: str, seed: int, trials: list[Trial]) -> None:
    """Keep the trials."""
    record = {"server": server, "seed": seed, "winner": winner(trials).number, "trials": [asdict(trial) for trial in trials]}
    write_atomic(path, json.dumps(record, indent=2, allow_nan=False) + "\n")
