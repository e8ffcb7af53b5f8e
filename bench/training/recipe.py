"""Training settings of a model: as published, with what a suite or a user sets in their place."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.records.schedules import Schedule, schedule_of
from bench.records.training import Recipe
from bench.suites.suite import Suite
from bench.workloads.base import Workload
from implementations import registry


def make_recipe(name: str, suite: Suite, workload: Workload, changes: dict[str, Any]) -> Recipe:
    """Published settings, then the suite's, then `changes` (fields of Recipe, or `epochs`); later ones win.

    A training of another length than the published one has the published warm-up and schedule in proportion.
    Raises UsageError if no learning rate or batch is known, or if a setting is not valid.
    """
    task = workload.task(suite.lengths[0]).name
    implementation = registry.find(name)
    card = implementation.training.get(task)
    published = None if card is None else schedule_of(implementation.system, task)
    given = suite.training
    rate = given.learning_rate.get(name, given.learning_rate.get(implementation.unset))
    settings = {
        **({} if card is None or published is None else _as_published(published, card)),
        "steps": given.steps,
        "evaluate_every": given.evaluate_every,
        "validation_sequences": given.validation_sequences,
        **({} if given.batch is None else {"batch": given.batch}),
        **({} if rate is None else {"learning_rate": rate}),
        **changes,
        "source": "no published schedule" if published is None else published.source,
    }
    needed = {"learning_rate": "--learning-rate", "batch": "--batch"}
    missing = " and ".join(option for field, option in needed.items() if field not in settings)
    if missing:
        raise UsageError(f"{name} has no published training settings for {task}: give {missing}")
    epochs = settings.pop("epochs", None)
    if epochs is not None:
        settings["steps"] = _steps_of(epochs, workload, settings["batch"])
    if settings.get("warm_up", 0) > settings["steps"]:
        raise UsageError(
            f"a warm-up of {settings['warm_up']} steps is longer than the training, {settings['steps']}"
        )
    return _checked(name, {**_extent(published, settings["steps"]), **settings})


def _as_published(published: Schedule, card: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that do not depend on the training's length. card: optimiser and groups of parameters."""
    groups = [{"learning_rate": published.kernel_learning_rate, **group} for group in card.get("slow", [])]
    return {
        **card,
        "batch": published.batch,
        "learning_rate": published.highest_rate,
        "weight_decay": published.weight_decay,
        "warm_up_power": published.warm_up_power,
        "warm_up_from": published.warm_up_from,
        "slow": groups or None,
    }


def _extent(published: Schedule | None, steps: int) -> dict[str, Any]:
    """Warm-up and end of the schedule for a training of so many steps; no warm-up if none is published."""
    if published is None:
        return {"warm_up": 0}
    if steps == published.steps:
        return {"warm_up": published.warm_up or 0, "schedule_steps": published.schedule_steps}
    end = published.schedule_steps
    return {
        "warm_up": math.ceil(published.warm_up_share * steps),
        "schedule_steps": None if end is None else max(1, round(published.share_of_steps(end) * steps)),
        "scaled_from": published.extent,
    }


def _steps_of(epochs: float, workload: Workload, batch: int) -> int:
    if not math.isfinite(epochs):
        raise UsageError(f"--epochs {epochs}: give a number")
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
    sizes = {"weight decay": recipe.weight_decay, "--activation-reg": recipe.activation_penalty}
    for what, value in sizes.items():
        if not 0 <= value < math.inf:
            raise UsageError(f"{what} {value}: it must be at least 0, and finite")
    return recipe
