"""Metrics of the user's own: functions of a finished step, by entry point or import path."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from bench.errors import UsageError
from bench.system.plugins import Door

DOOR = Door("metric", "seqboat_bench.metrics")


class Figure(NamedTuple):
    """A metric's result: a name, which heads a column, a value, and its unit, which may be empty."""

    name: str
    value: float
    unit: str = ""


class NoFigure(ValueError):
    """A metric's result that is not a figure; the message says why."""


Metric = Callable[[Any], Figure]
"""A function of a `bench.steps.step.Step` that has just been run."""


def load(name: str) -> Metric:
    """The metric of that name, or at an import path. Raises UsageError."""
    found = DOOR.load(name)
    if not callable(found) or inspect.isclass(found):
        raise UsageError(f"metric {name}: is not a function of a step")
    metric: Metric = found
    return metric


def checked(given: Any) -> Figure:
    """A metric's result as a figure. Raises NoFigure."""
    if not isinstance(given, tuple) or not 2 <= len(given) <= 3:
        raise NoFigure(f"gives {type(given).__name__}; give bench.Figure(name, value, unit)")
    name, value, unit = Figure(*given)
    if not isinstance(name, str) or not name.strip() or not isinstance(unit, str):
        raise NoFigure("gives a figure whose name or unit is not text")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise NoFigure(f"gives {type(value).__name__} in place of a number") from None
    if not math.isfinite(number):
        raise NoFigure(f"gives {number}, which is not finite")
    return Figure(" ".join(name.split()), number, " ".join(unit.split()))
