"""Published training schedules: batches, steps, warm-ups, rates and decay, by system and task."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.records.published import figures_folder
from implementations.errors import YamlError
from implementations.yaml_files import read_yaml


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Training schedule of a published model on a task."""

    batch: int
    """Sequences per step."""
    steps: int | None = None
    """Steps; None if they follow from epochs of a training set of unknown size."""
    epochs: int | None = None
    length: int | None = None
    """Length of a sequence, if the task leaves it open."""
    warm_up: int | None = None
    """Steps in which the learning rate rises."""
    warm_up_epochs: int | None = None
    """Warm-up in epochs, in place of steps."""
    warm_up_power: float = 1.0
    warm_up_from: float = 0.0
    schedule_steps: int | None = None
    """Step at which the cosine reaches its minimum, if that is not the last step."""
    learning_rate: float | None = None
    """Highest learning rate."""
    rsqrt_factor: float | None = None
    """Factor of an inverse square root: after the warm-up the rate is this over the root of the step."""
    kernel_learning_rate: float | None = None
    """Learning rate of the parameters that have one of their own on the card."""
    weight_decay: float
    source: str = ""

    @property
    def highest_rate(self) -> float:
        """Learning rate at the end of the warm-up."""
        if self.learning_rate is not None:
            return self.learning_rate
        return (self.rsqrt_factor or 0.0) / math.sqrt(self.warm_up or 1)

    @property
    def extent(self) -> str:
        """Length in words: `25000 steps` or `40 epochs`."""
        return f"{self.epochs} epochs" if self.steps is None else f"{self.steps} steps"

    def share_of_steps(self, steps: int) -> float:
        """Share of the whole training that so many steps are."""
        return steps / (self.steps or self.schedule_steps or math.inf)

    @property
    def warm_up_share(self) -> float:
        """Share of the whole training that the warm-up is."""
        if self.warm_up_epochs is not None and self.epochs:
            return self.warm_up_epochs / self.epochs
        return self.share_of_steps(self.warm_up or 0)


def schedule_of(system: str, task: str) -> Schedule | None:
    """Published schedule of a system on a task; None if there is none. Raises UsageError."""
    return _schedules().get((system, task))


@functools.cache
def _schedules() -> Mapping[tuple[str, str], Schedule]:
    return read_schedules(figures_folder() / "schedules.yaml")


class _System(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    tasks: dict[str, Schedule]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    sequences: dict[str, int]
    systems: dict[str, _System]


def read_schedules(path: Path) -> Mapping[tuple[str, str], Schedule]:
    """Read a file of schedules, by system and task. Raises UsageError: file, place and reason in one line."""
    try:
        content: Any = read_yaml(path)
        file = msgspec.convert(content, _File)
    except YamlError as error:
        raise UsageError(str(error)) from None
    except (msgspec.ValidationError, RecursionError) as error:
        raise UsageError(f"{path}: {error}") from None
    found = {}
    for system, published in file.systems.items():
        for task, schedule in published.tasks.items():
            if (schedule.learning_rate is None) == (schedule.rsqrt_factor is None):
                raise UsageError(f"{path}: {system} on {task}: give one of learning_rate and rsqrt_factor")
            found[system, task] = _in_steps(schedule, file.sequences.get(task), published.source)
    return found


def _in_steps(schedule: Schedule, sequences: int | None, source: str) -> Schedule:
    """The schedule with its epochs as steps, if the training set's size is known."""
    steps, warm_up = schedule.steps, schedule.warm_up
    if sequences is not None:
        epoch = math.ceil(sequences / schedule.batch)
        steps = steps or epoch * (schedule.epochs or 0) or None
        warm_up = epoch * (schedule.warm_up_epochs or 0) if warm_up is None else warm_up
    return msgspec.structs.replace(schedule, steps=steps, warm_up=warm_up, source=source)
