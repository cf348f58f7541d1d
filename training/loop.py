"""The loop around a training step, the same lines for both frameworks: what is timed and what is not.

A step's time ends with its loss on the host, so it contains the work of the step. Evaluation and TensorBoard's
writing are outside it; what writing costs is kept beside it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from faceoff import cli, processes, progress
from training.scalars import Board


@dataclass(kw_only=True)
class Trajectory:
    """What every step left, in order; no times where nothing was timed. `evaluations` are (steps taken, test accuracy)."""

    losses: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    others_percent: float | None = None  # of the time of the cores that it may use: what others used or the hypervisor took


def run(
    step: Callable[[Any], float],
    batches: Iterable[Any],
    *,
    label: str,
    num_steps: int,
    board: Board,
    evaluate: Callable[[], float | None],
    evaluate_every: int = 0,
    timed: bool = True,
    fellows: Sequence[psutil.Process] = (),
) -> Trajectory:
    """Take every step; evaluate after each `evaluate_every` of them (0: never).

    Not `timed`: another training runs beside this one, and no time is kept. `fellows` are workers of the same training:
    what they use is not others' use.
    """
    found = Trajectory()
    started, others = time.perf_counter(), _used_by_others_s(fellows)
    with progress.bar(f"train {label}", num_steps) as bar:
        for index, rows in enumerate(batches):
            begin = time.perf_counter()
            loss = step(rows)
            step_ms = (time.perf_counter() - begin) * 1e3
            found.losses.append(loss)
            scalars = {"loss": loss}
            if timed:
                found.step_ms.append(step_ms)
                scalars["step_ms"] = step_ms
            if evaluate_every and (index + 1) % evaluate_every == 0:
                accuracy = evaluate()
                if accuracy is not None:
                    found.evaluations.append((index + 1, accuracy))
                    scalars["test_accuracy"] = accuracy
            board.add(index, scalars)
            bar.advance(note=f"loss {loss:.4f}")
    had = processes.usable_cores() * max(time.perf_counter() - started, 1e-9)
    if timed:
        found.others_percent = 100.0 * max(0.0, _used_by_others_s(fellows) - others) / had
    return found


def fellows() -> list[psutil.Process]:
    """The other processes that our parent started: of a worker, its fellow workers."""
    return [child for child in psutil.Process(os.getppid()).children() if child.pid != os.getpid()]


def _used_by_others_s(fellows: Sequence[psutil.Process]) -> float:
    """Seconds so far in which a core that this process may use was busy and not with this process or a fellow.

    Not how long threads wait for a core: TensorFlow has more threads than cores, and they wait for each other.
    """
    cores = sorted(os.sched_getaffinity(0))
    times = psutil.cpu_times(percpu=True)
    own = [times[core] for core in cores] if cores[-1] < len(times) else times  # a container may count its own cores from 0
    busy = sum(sum(core[:8]) - core.idle - core.iowait for core in own)  # fields after the eighth are contained in others
    return float(busy) - time.process_time() - sum(map(_used_s, fellows))


def _used_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # ended: what it used counts as others' then, which makes a result INVALID, never wrong
        return 0.0
    return float(times.user + times.system)


def add_options(parser: cli.Parser, *, name: str, modes: str) -> None:
    """The options of training.train_<framework>, which both take."""
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan (training.plan)")
    parser.add_argument("--name", default=name, help="folder under the plan's for what is written (default: %(default)s)")
    parser.add_argument("--mode", default="", choices=["", *re.split(r", | or ", modes)], help=f"{modes}; default: the first")
    parser.add_argument("--native-seed", type=int, default=None, help="train the framework's own way from this seed")
    parser.add_argument("--evaluate-every", type=int, default=0, help="steps between evaluations on the way (default: none)")
    parser.add_argument("--board", default="on", choices=["on", "off"], help="TensorBoard logs (default: %(default)s)")


def seconds_to(target: float, step_ms: list[float], evaluations: list[tuple[int, float]]) -> float | None:
    """Time of the steps, the first included, until the first evaluation that reaches `target`; None if none does."""
    for steps, accuracy in evaluations:
        if accuracy >= target:
            return sum(step_ms[:steps]) / 1e3
    return None
