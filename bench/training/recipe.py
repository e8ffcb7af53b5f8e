"""How a model is trained: the card's optimiser settings, and what a suite or a user puts in their place."""

import math
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.records.training import Recipe
from bench.suites.suite import Suite
from bench.workloads.base import Workload
from implementations import registry

WARM_UP_SHARE = 0.1
"""Of all steps, where nobody says how many; the facts on the published recipes leave it open."""


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
