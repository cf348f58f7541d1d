"""What one framework's training leaves behind: record.json, the same fields on both sides."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


def peak_rss_bytes() -> int:
    """The most memory that this process has had resident since it began, the import of its framework included.

    VmHWM of proc_pid_status(5). getrusage's ru_maxrss survives exec(2): it would be at least what the process that
    started this one had, which holds the whole data set.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@dataclass(frozen=True, kw_only=True)
class Record:
    """One training in one process. Times are wall-clock; the first step, which compiles, is kept apart.

    A native training has no times: the other framework trains beside it.
    """

    framework: str
    version: str
    mode: str  # of step_torch.MODES or step_tf.MODES
    precision: str
    device: str
    threads: int
    import_s: float | None
    losses: list[float]  # of every step, in order
    step_ms: list[float]  # of every step, in order
    test_accuracy: float | None  # of its own trained weights; None where there are no right answers
    num_parameters: int
    peak_gpu_bytes: int | None
    optimizer: dict[str, Any]  # the recipe (training.optimizers)
    native_seed: int | None = None  # of native training; None in lock-step, where the plan's seed rules both sides
    evaluations: list[tuple[int, float]] = field(default_factory=list)  # (steps taken, test accuracy) on the way
    logging_ms: list[float] = field(default_factory=list)  # of every step: writing its scalars, outside step_ms
    others_percent: float | None = None  # of its cores' time: what others used (training.loop); fellow workers are no others
    energy_j: float | None = None  # of the GPUs over all steps; None where NVML does not count it

    def to_dict(self) -> dict[str, Any]:
        """All fields, and what follows from them and from this process, whose peak RSS so far is among them."""
        return {
            **asdict(self),
            "first_step_ms": self.step_ms[0] if self.step_ms else None,
            "training_s": sum(self.step_ms[1:]) / 1e3 if len(self.step_ms) == len(self.losses) else None,
            "peak_rss_bytes": peak_rss_bytes(),
        }

    def brief(self) -> dict[str, Any]:
        """`to_dict` without the long lists, for a JSON line."""
        return {name: value for name, value in self.to_dict().items() if not isinstance(value, list)}

    def write(self, directory: Path) -> dict[str, Any]:
        """Write record.json; returns it in brief."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "record.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return self.brief()
