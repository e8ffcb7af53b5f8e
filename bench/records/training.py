"""Records of a training, one line of JSON each: how it began, how it went, how it ended."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from bench.errors import ResultError
from bench.records.run import Environment
from bench.suites.case import Case

T = TypeVar("T")

SCHEMA = 1

EndReason = Literal["finished", "interrupted", "nan", "error"]


class ParameterGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters with a learning rate or a weight decay of their own."""

    pattern: str
    """Regular expression that their names match somewhere; the first group that matches has a parameter."""
    learning_rate: float | None = None
    """Theirs at most; None for that of all."""
    weight_decay: float | None = 0.0
    """None for that of all."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the course of a training, beside the model and the data."""

    steps: int
    batch: int
    """Sequences a step."""
    learning_rate: float
    """Where the warm-up ends."""
    warm_up: int
    """Steps in which the learning rate rises; it may end beyond the last step."""
    warm_up_power: float = 1.0
    """It rises as this power of the step."""
    warm_up_from: float = 0.0
    """Learning rate where it begins to rise."""
    schedule: Literal["linear", "cosine", "inverse-sqrt"] = "linear"
    """How it falls from there: to 0 at the end, or as one over the root of the step."""
    schedule_steps: int | None = None
    """The step at which it has fallen to 0, beyond which a cosine rises again; None for the last one."""
    optimizer: Literal["adam", "adamw", "radam"] = "adam"
    """Each with decoupled weight decay, as fairseq's Adam has it too."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = None
    """Largest norm of the gradient of all parameters together."""
    slow: list[ParameterGroup] | ParameterGroup | None = None
    """Parameters with a rate or a decay of their own; one group alone in records of earlier versions."""
    activation_penalty: float = 0.0
    """Times the mean confidence of the configurators, added to the loss; the published recipe has none."""
    evaluate_every: int = 100
    """Steps from one evaluation and checkpoint to the next."""
    validation_sequences: int = 512
    source: str = ""
    """Where the settings are from, before anything was changed by hand."""
    scaled_from: str | None = None
    """How long the published training is, where its warm-up and schedule were scaled to these steps."""

    def groups(self) -> list[ParameterGroup]:
        """Parameters with a rate or a decay of their own."""
        return [self.slow] if isinstance(self.slow, ParameterGroup) else self.slow or []

    def rate(self, step: int) -> float:
        """The learning rate of step number `step` (from 0) over the highest one."""
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
    """What validation measures."""


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress", tag_field="type"):
    """The steps since the last such record."""

    step: int
    """Steps done."""
    loss: float
    """Mean over these steps, in nats."""
    learning_rate: float
    """Of the last of them."""
    seconds: float
    """Of training up to here, evaluations not counted."""


class LayerActivation(msgspec.Struct, frozen=True, kw_only=True):
    """Activation rates of one layer over the validation sequences, a rate a sequence."""

    mean: float
    deviation: float
    low: float
    """A tenth of the sequences lies below."""
    high: float
    """A tenth of them lies above."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, tag="evaluation", tag_field="type"):
    """The model on validation sequences, which no training step sees."""

    step: int
    loss: float
    """In nats a label, or a character."""
    accuracy: float | None
    bits_per_character: float | None
    chance_loss: float
    """Of the best guess that does not look at the sequence: the entropy of the labels."""
    chance_accuracy: float
    sequences: int
    activation: list[LayerActivation] = []
    """By layer, of models with configurators."""

    def is_chance(self, loss: float) -> bool:
        """Whether a loss, in nats, is no better than that guess's."""
        return loss > PLATEAU * self.chance_loss


PLATEAU = 0.99
"""A loss above this share of chance's is stuck there."""


class Plateau(msgspec.Struct, frozen=True, kw_only=True, tag="plateau", tag_field="type"):
    """The warning that the loss is stuck at chance."""

    step: int
    loss: float
    """Of the training steps since the last evaluation; that of the validation sequences is no better."""
    chance_loss: float


class TrainingEnd(msgspec.Struct, frozen=True, kw_only=True, tag="training-end", tag_field="type"):
    """Why a training stopped; a resumed one goes on below this line."""

    reason: EndReason
    step: int
    seconds: float
    """Of training, evaluations not counted."""
    detail: str | None = None


TrainingRecord = Begin | Progress | Evaluation | Plateau | TrainingEnd


class TrainingResults(msgspec.Struct, frozen=True):
    """What the record file of a training holds."""

    path: str
    begin: Begin
    progress: list[Progress]
    evaluations: list[Evaluation]
    plateau: Plateau | None
    end: TrainingEnd | None
    """None if it was killed."""

    @property
    def finished(self) -> bool:
        return self.end is not None and self.end.reason == "finished"


def read_training(path: Path) -> TrainingResults:
    """A training's records, of each step the newest. Raises ResultError: what is wrong, in which line."""
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
        progress=list({record.step: record for record in _of(records, Progress)}.values()),
        evaluations=list({record.step: record for record in _of(records, Evaluation)}.values()),
        plateau=next(iter(_of(records, Plateau)), None),
        end=last if isinstance(last, TrainingEnd) else None,
    )


def _of(records: Sequence[TrainingRecord], kind: type[T]) -> list[T]:
    return [record for record in records if isinstance(record, kind)]


def _decode(line: bytes, number: int, path: Path) -> TrainingRecord:
    try:
        record: TrainingRecord = msgspec.json.decode(line, type=TrainingRecord)
    except msgspec.DecodeError as error:
        raise ResultError(f"{path}: line {number} is no record of a training ({error})") from None
    return record
