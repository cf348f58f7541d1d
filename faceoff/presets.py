"""Configuration: presets in YAML, read into frozen dataclasses that check themselves.

presets/models/<model>.yaml, presets/servers/<server>.yaml, presets/load/<profile>.yaml. A command-line
option only selects or overrides what stands there. To add a model, write its preset and its two files
in training/ and add its name to MODELS.
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from faceoff.errors import UsageError, unknown

MODELS = (
    "mlp",
    "cnn",
    "resnet8",
    "resnet50",
    "rnn",
    "lstm",
    "gru",
    "transformer",
    "bert-base",
    "seq2seq",
    "dcgan",
    "identity",
)
TASKS = (
    "image_classifier",
    "vector_classifier",
    "sequence_classifier",
    "token_classifier",
    "seq2seq",
    "image_generator",
    "identity",
)
OPTIMIZERS = ("sgd", "adam", "adamw")
LOSSES = ("cross_entropy", "token_cross_entropy", "adversarial", "none")
MIN_GOLDEN_ROWS = 16  # eight of them are extremes
PRESETS = Path(__file__).resolve().parent.parent / "presets"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TrainingPreset:
    """How both sides are trained. `steps` maps a profile to a number of optimizer steps."""

    optimizer: str
    learning_rate: float
    momentum: float
    batch_size: int
    steps: dict[str, int]
    seed: int
    loss_bound: float = 1e-4  # lock-step losses stay this close over the first 200 steps (training.outcome)
    accuracy_margin: float = 0.01  # native accuracies this close count as equal (training.equivalence)
    target_accuracy: float | None = None  # time to it is measured (training.modes)

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(f"optimizer {self.optimizer!r}: expected one of {', '.join(OPTIMIZERS)}")
        if self.loss_bound <= 0 or not 0 < self.accuracy_margin < 1 or not 0 < (self.target_accuracy or 0.5) <= 1:
            raise UsageError("training preset: expected loss_bound > 0, 0 < accuracy_margin < 1 and 0 < target_accuracy <= 1")
        # Two, because the first step is kept apart; none for a model that has nothing to learn.
        if self.learning_rate <= 0 or self.batch_size < 1 or any(n < 2 and n != 0 for n in self.steps.values()):
            raise UsageError("training preset: expected learning_rate > 0, batch_size >= 1 and 0 or at least 2 steps")


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Largest absolute difference of an output that still counts as equal, and why it may be so large."""

    frameworks: float  # torch against TensorFlow, same weights
    artifact: float  # a servable against the golden outputs
    wire: float  # an answer over the network against the golden outputs
    reason: str

    def __post_init__(self) -> None:
        if not 0 < self.frameworks <= self.wire or not 0 < self.artifact <= self.wire:
            raise UsageError("tolerances: expected 0 < frameworks, artifact <= wire")


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """What the data set `synthetic` makes for a model; token ids stay under the architecture's `vocabulary`."""

    shape: tuple[int, ...]  # of one row of every input
    num_classes: int
    num_train: int
    num_test: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))  # YAML has lists
        if min(*self.shape, self.num_classes, self.num_train, self.num_test) < 1:
            raise UsageError("synthetic preset: expected sizes of at least 1")


@dataclass(frozen=True, kw_only=True)
class ModelPreset:
    """One model: the pair training/<module>_torch.py and training/<module>_tf.py, sized and trained as said here."""

    name: str
    module: str
    task: str  # what goes in and comes out: training.tasks
    loss: str  # training.losses_torch and losses_tf
    datasets: tuple[str, ...]  # the first is the default
    synthetic: Synthetic
    num_golden_rows: int
    architecture: dict[str, Any]
    training: TrainingPreset
    tolerances: Tolerances

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UsageError(f"model {self.name!r} has task {self.task!r}: expected one of {', '.join(TASKS)}")
        if self.loss not in LOSSES:
            raise UsageError(f"model {self.name!r} has loss {self.loss!r}: expected one of {', '.join(LOSSES)}")
        if self.num_golden_rows < MIN_GOLDEN_ROWS:
            raise UsageError(f"model {self.name!r} has {self.num_golden_rows} golden rows: expected at least {MIN_GOLDEN_ROWS}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ServerPreset:
    """Settings of one server. `settings` is what the server module understands."""

    server: str
    name: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LoadProfile:
    """How much is measured. Counts are requests; a window is one valid-or-flagged stretch of measurement."""

    name: str
    windows: int
    requests_per_window: int
    warmup_requests: int
    max_window_repeats: int
    closed_connections: int
    open_connections: int
    rate_fraction: float  # open-loop rate as a fraction of the closed throughput just measured
    slo_ms: float
    timeout_s: float

    def __post_init__(self) -> None:
        if min(self.windows, self.requests_per_window, self.closed_connections, self.open_connections) < 1:
            raise UsageError(f"load profile {self.name!r}: expected counts of at least 1")
        if not 0 < self.rate_fraction < 1:
            raise UsageError(f"load profile {self.name!r}: expected 0 < rate_fraction < 1, got {self.rate_fraction}")


@dataclass(frozen=True, kw_only=True)
class ExportPreset:
    """How exports are judged: presets/export.yaml says of what `tolerance_factors` are factors, by precision and format."""

    tolerance_factors: dict[str, dict[str, float]]
    min_accuracy_ratio: float
    lengths: list[int]

    def __post_init__(self) -> None:
        if any(factor <= 0 for factors in self.tolerance_factors.values() for factor in factors.values()):
            raise UsageError("export preset: expected tolerance_factors > 0")
        if not 0 < self.min_accuracy_ratio <= 1:
            raise UsageError(f"export preset: expected 0 < min_accuracy_ratio <= 1, got {self.min_accuracy_ratio}")
        if any(length < 1 for length in self.lengths):
            raise UsageError("export preset: expected lengths of at least 1")

    def tolerance_factor(self, precision: str, kind: str) -> float:
        """The factor of one format. Raises UsageError when presets/export.yaml has none."""
        try:
            return self.tolerance_factors[precision][kind]
        except KeyError:
            raise UsageError(f"presets/export.yaml has no tolerance for {kind!r} in {precision}: add one") from None


def model(name: str) -> ModelPreset:
    """The preset of a registered model. Raises UsageError for one that nobody registered."""
    if name not in MODELS:
        raise unknown("model", name, list(MODELS), "MODEL")
    data = _read(PRESETS / "models" / f"{name}.yaml")
    data["training"] = _build(TrainingPreset, data["training"])
    data["synthetic"] = _build(Synthetic, data["synthetic"])
    data["tolerances"] = _build(Tolerances, data["tolerances"])
    data["datasets"] = tuple(data["datasets"])
    return _build(ModelPreset, {"name": name, **data})


def server(kind: str, name: str = "default") -> ServerPreset:
    """The settings called `name` of server `kind`."""
    data = _read(PRESETS / "servers" / f"{kind}.yaml")
    if name not in data:
        raise unknown(f"settings of {kind}", name, list(data), "TUNING")
    return ServerPreset(server=kind, name=name, settings=data[name])


def export() -> ExportPreset:
    """presets/export.yaml."""
    return _build(ExportPreset, _read(PRESETS / "export.yaml"))


def load_profile(name: str) -> LoadProfile:
    """A load profile from presets/load. Raises UsageError for an unknown one."""
    known = sorted(path.stem for path in (PRESETS / "load").glob("*.yaml"))
    if name not in known:
        raise unknown("profile", name, known, "PROFILE")
    return _build(LoadProfile, {"name": name, **_read(PRESETS / "load" / f"{name}.yaml")})


def _read(path: Path) -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _build(kind: type[T], data: dict[str, Any]) -> T:
    """Build a dataclass from YAML, naming every unknown key and every missing one that has no default."""
    known = {f.name: f.default is MISSING for f in fields(kind)}  # type: ignore[arg-type]
    missing = sorted(name for name, needed in known.items() if needed and name not in data)
    extra = sorted(set(data) - set(known))
    if missing or extra:
        raise UsageError(f"{kind.__name__} preset: missing keys {missing}, unknown keys {extra}")
    return kind(**data)
