"""How a model is trained: the card's optimiser settings, and what a suite or a user puts in their place."""

import math
from typing import Any, Literal

import msgspec

from bench.errors import UsageError
from bench.suites.suite import Suite
from bench.workloads.base import Workload
from implementations import registry

WARM_UP_SHARE = 0.1
"""Of all steps, where nobody says how many; the facts on the published recipes leave it open."""


class SlowParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters that learn at a rate of their own at most, without weight decay."""

    pattern: str
    """Regular expression that their names match somewhere."""
    learning_rate: float


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the course of a training, beside the model and the data."""

    steps: int
    batch: int
    """Sequences a step."""
    learning_rate: float
    """Where the warm-up ends."""
    warm_up: int
    """Steps in which the learning rate rises linearly from 0."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How it falls to 0 from there to the last step."""
    optimizer: Literal["adam", "adamw", "radam"] = "adam"
    """Each with decoupled weight decay, as fairseq's Adam has it too."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = None
    """Largest norm of the gradient of all parameters together."""
    slow: SlowParameters | None = None
    activation_penalty: float = 0.0
    """Times the mean confidence of the configurators, added to the loss; the published recipe has none."""
    evaluate_every: int = 100
    """Steps from one evaluation and checkpoint to the next."""
    validation_sequences: int = 512
    source: str = ""
    """Where the settings are from, before anything was changed by hand."""

    def rate(self, step: int) -> float:
        """The learning rate of step number `step` (from 0) over the highest one."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        left = (self.steps - step) / max(1, self.steps - self.warm_up)
        return left if self.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def make_recipe(name: str, suite: Suite, workload: Workload, changes: dict[str, Any]) -> Recipe:
    """The card's settings, over them the suite's, over them `changes` (fields of Recipe, or `epochs`).

    Raises UsageError where no learning rate is known, or where a setting cannot be.
    """
    task = workload.task(suite.lengths[0]).name
    implementation = registry.find(name)
    card = dict(implementation.training.get(task, {}))
    plan = suite.training
    settings = {
        **card,
        "steps": plan.steps,
        "evaluate_every": plan.evaluate_every,
        "validation_sequences": plan.validation_sequences,
        **({} if plan.batch is None else {"batch": plan.batch}),
        **({"learning_rate": plan.learning_rate[name]} if name in plan.learning_rate else {}),
        **changes,
        "source": implementation.training_source if card else "no card",
    }
    for needed, option in (("learning_rate", "--learning-rate"), ("batch", "--batch")):
        if needed not in settings:
            raise UsageError(f"{name} has no published training settings for {task}: give {option}")
    epochs = settings.pop("epochs", None)
    if epochs is not None:
        settings["steps"] = _steps_of(epochs, workload, settings["batch"])
    settings.setdefault("warm_up", math.ceil(WARM_UP_SHARE * settings["steps"]))
    return _checked(name, settings)


def _steps_of(epochs: float, workload: Workload, batch: int) -> int:
    sequences = workload.sequences("train")
    if sequences is None:
        raise UsageError(f"{workload.name} makes sequences without end, so it has no epochs: give --steps")
    return max(1, math.ceil(epochs * sequences / batch))


def _checked(name: str, settings: dict[str, Any]) -> Recipe:
    try:
        recipe = msgspec.convert(settings, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(f"training settings of {name}: {error}") from None
    if not 0 < recipe.learning_rate < math.inf:
        raise UsageError(f"learning rate {recipe.learning_rate}: it must be above 0")
    if recipe.warm_up > recipe.steps:
        raise UsageError(f"a warm-up of {recipe.warm_up} steps is longer than the training, {recipe.steps}")
    return recipe
