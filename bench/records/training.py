"""Records of a training, one line of JSON each: how it began, how it went, how it ended."""

import math
from pathlib import Path
from typing import Literal

import msgspec

from bench.errors import ResultError
from bench.records.environment import Environment
from bench.records.reading import of_kind
from bench.suites.case import Case

SCHEMA = 1

EndReason = Literal["finished", "interrupted", "nan", "error"]


class ParameterGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters with a learning rate or a weight decay of their own."""

    pattern: str
    """Regular expression that is searched for in names; the first group that matches has a parameter."""
    learning_rate: float | None = None
    """Upper bound of their learning rate; None for that of all parameters."""
    weight_decay: float | None = 0.0
    """None for that of all parameters."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the course of a training, besides the model and the data."""

    steps: int
    batch: int
    """Sequences per step."""
    learning_rate: float
    """Learning rate at the end of the warm-up."""
    warm_up: int
    """Steps in which the learning rate rises; may be more than the training has."""
    warm_up_power: float = 1.0
    """The rate rises as this power of the step."""
    warm_up_from: float = 0.0
    """Learning rate at the start of the warm-up."""
    schedule: Literal["linear", "cosine", "inverse-sqrt"] = "linear"
    """Fall of the rate after the warm-up: to 0 at the end, or as one over the root of the step."""
    schedule_steps: int | None = None
    """Step at which the rate has fallen to 0, beyond which a cosine rises again; None for the last step."""
    optimizer: Literal["adam", "adamw", "radam"] = "adam"
    """Optimiser; each has decoupled weight decay, as fairseq's Adam does too."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = None
    """Largest norm of the gradient of all parameters together."""
    slow: list[ParameterGroup] | ParameterGroup | None = None
    """Parameters with a rate or a decay of their own; one group alone in records of earlier versions."""
    activation_penalty: float = 0.0
    """Factor of the configurators' mean confidence, which is added to the loss; 0 in the published recipe."""
    evaluate_every: int = 100
    """Steps from one evaluation and checkpoint to the next."""
    validation_sequences: int = 512
    source: str = ""
    """Source of the settings, before anything was changed by hand."""
    scaled_from: str | None = None
    """Length of the published training, if its warm-up and schedule were scaled to these steps."""

    def groups(self) -> list[ParameterGroup]:
        """Parameters with a rate or a decay of their own."""
        return [self.slow] if isinstance(self.slow, ParameterGroup) else self.slow or []

    def rate(self, step: int) -> float:
        """Learning rate of step number `step` (from 0) over the highest one."""
        if step < self.warm_up:
            start = min(1.0, self.warm_up_from / self.learning_rate)
            risen = math.pow((step + 1) / self.warm_up, self.warm_up_power)
            return start + (1.0 - start) * risen
        if self.schedule == "inverse-sqrt":
            return math.sqrt(max(1, self.warm_up) / (step + 1))
        end = self.schedule_steps or self.steps
        left = (end - step) / max(1, end - self.warm_up)
        return max(0.0, left) if self.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag="training", tag_field="type"):
    """First line of a file."""

    schema: int
    created: str
    """ISO 8601, UTC."""
    command: list[str]
    suite: str
    case: Case
    recipe: Recipe
    environment: Environment
    data: str
    parameters: int
    unit: Literal["accuracy", "bits_per_character"]
    """Measure of quality on the validation sequences."""


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress", tag_field="type"):
    """The steps since the last such record."""

    step: int
    """Steps done."""
    loss: float
    """Mean over these steps, in nats."""
    learning_rate: float
    """Learning rate of the last of these steps."""
    seconds: float
    """Seconds of training so far, without evaluations."""


class LayerActivation(msgspec.Struct, frozen=True, kw_only=True):
    """Activation rates of one layer over the validation sequences, one rate per sequence."""

    mean: float
    deviation: float
    low: float
    """10th percentile."""
    high: float
    """90th percentile."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, tag="evaluation", tag_field="type"):
    """The model on validation sequences, which no training step sees."""

    step: int
    loss: float
    """Loss in nats per label, or per character."""
    accuracy: float | None
    bits_per_character: float | None
    chance_loss: float
    """Loss of the best guess that does not look at the sequence: the entropy of the labels."""
    chance_accuracy: float
    sequences: int
    activation: list[LayerActivation] = []
    """Activation by layer; empty for models without configurators."""

    def is_chance(self, loss: float) -> bool:
        """Whether a loss, in nats, is not better than that of the best guess."""
        return loss > PLATEAU * self.chance_loss


PLATEAU = 0.99
"""A loss above this share of chance's is stuck there."""


class Plateau(msgspec.Struct, frozen=True, kw_only=True, tag="plateau", tag_field="type"):
    """The warning that the loss is stuck at chance."""

    step: int
    loss: float
    """Loss of the training steps since the last evaluation; the validation loss is not better."""
    chance_loss: float


class TrainingEnd(msgspec.Struct, frozen=True, kw_only=True, tag="training-end", tag_field="type"):
    """Why a training stopped; a resumed one continues below this line."""

    reason: EndReason
    step: int
    seconds: float
    """Seconds of training, without evaluations."""
    detail: str | None = None
    traceback: str | None = None


TrainingRecord = Begin | Progress | Evaluation | Plateau | TrainingEnd


class TrainingResults(msgspec.Struct, frozen=True):
    """Contents of a training's record file."""

    path: str
    begin: Begin
    progress: list[Progress]
    evaluations: list[Evaluation]
    plateau: Plateau | None
    end: TrainingEnd | None
    """End of the training; None if it was killed."""

    @property
    def finished(self) -> bool:
        return self.end is not None and self.end.reason == "finished"

    @property
    def failed_at_once(self) -> bool:
        """Whether it failed before its first step, so that there is nothing to continue."""
        return self.end is not None and self.end.reason in ("error", "nan") and self.end.step == 0


def read_training(path: Path) -> TrainingResults:
    """Read a training's records, the newest of each step. Raises ResultError: what is wrong, and where."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror})") from None
    records = [_decode(line, number, path) for number, line in enumerate(lines, 1)]
    if not records or not isinstance(records[0], Begin):
        raise ResultError(f"{path}: does not begin as the records of a training do")
    if records[0].schema != SCHEMA:
        raise ResultError(f"{path}: has schema {records[0].schema}, this version reads {SCHEMA}")
    last = records[-1]
    return TrainingResults(
        path=str(path),
        begin=records[0],
        progress=list({record.step: record for record in of_kind(records, Progress)}.values()),
        evaluations=list({record.step: record for record in of_kind(records, Evaluation)}.values()),
        plateau=next(iter(of_kind(records, Plateau)), None),
        end=last if isinstance(last, TrainingEnd) else None,
    )


def _decode(line: bytes, number: int, path: Path) -> TrainingRecord:
    try:
        record: TrainingRecord = msgspec.json.decode(line, type=TrainingRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ResultError(f"{path}: line {number} is not a record of a training ({error})") from None
    return record
