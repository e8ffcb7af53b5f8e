"""Names for the parts of a step, put around modules and functions from outside: no model is edited."""

import bisect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn

from bench.errors import UsageError
from bench.steps.plugged import stages_of
from bench.steps.step import Step
from implementations.stages import FRAMES, FUNCTIONS, MODULES, PRODUCTS

StagePath = tuple[str, ...]

PREFIX = "stage: "


def of_operator(path: StagePath, operator: str) -> StagePath:
    """Stage of an operator (`mm`, `aten::mm`) that runs in stage `path`: a matrix product in a mere frame of
    other stages is a projection, which fused layers compute themselves and plain ones in a module."""
    is_projection = path[-1:] in [(name,) for name in FRAMES] and operator.removeprefix("aten::") in PRODUCTS
    return (*path, "projections") if is_projection else path


class Stages:
    """Stages of a step: `path` is the one that runs now, and `of_node` that of a backward node."""

    def __init__(self) -> None:
        self.path: StagePath = ()
        self.calls: Counter[StagePath] = Counter()
        self._begins: list[int] = [0]
        self._paths: list[StagePath] = [()]

    def forget(self) -> None:
        """Begin a new step."""
        self.calls.clear()
        self._begins, self._paths = [0], [()]

    def of_node(self, sequence_number: int) -> StagePath:
        """The stage in which a backward node was made: its number lies between those of two changes."""
        return self._paths[bisect.bisect_right(self._begins, sequence_number) - 1]

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """A stage, for as long as the context lasts; a stage inside one of the same name is that one."""
        node = torch._C._current_autograd_node()
        before = self.path
        around = before if node is None else self.around(node)
        if around and around[-1] == name:
            yield
            return
        self._enter((*around, name))
        if node is None:
            self.calls[self.path] += 1
        try:
            with torch.profiler.record_function(PREFIX + " / ".join(self.path)):
                yield
        finally:
            self._enter(before)

    def around(self, node: Any) -> StagePath:
        """The stage that a backward node runs in: one that it entered itself, else that which made it."""
        return self.path or self.of_node(node._sequence_nr())

    def _enter(self, path: StagePath) -> None:
        self.path = path
        number = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
        # A forward pass that is run again within the backward pass makes nodes of its own, later ones.
        if number >= self._begins[-1]:
            self._begins.append(number)
            self._paths.append(path)


@contextmanager
def named(step: Step) -> Iterator[Stages]:
    """Within this context, a step reports its stages; afterwards models and functions are as before."""
    stages = Stages()
    undo: list[Callable[[], None]] = []
    own = stages_of(step.case)
    places: list[tuple[Any, str, str]] = [
        (module, "forward", name) for module in step.model.modules() if (name := role_of(module, own))
    ]
    places += [*_functions(), *_functions_of(own)]
    places += [(step, "loss_of", "loss"), (step.optimizer, "step", "optimiser")]
    places.append((step.optimizer, "zero_grad", "optimiser"))
    for owner, attribute, name in places:
        undo.append(_wrap(owner, attribute, name, stages))
    try:
        yield stages
    finally:
        for restore in reversed(undo):
            restore()


def role_of(module: nn.Module, own: Mapping[str, str] = {}) -> str | None:
    """The stage that a module is, by a plug-in's own patterns first; None for one that only frames others."""
    name = type(module).__name__
    patterns = (*own.items(), *MODULES)
    return next((role for pattern, role in patterns if re.fullmatch(pattern, name)), None)


def _functions_of(own: Mapping[str, str]) -> Iterator[tuple[Any, str, str]]:
    """The functions among a plug-in's stages, `package.module:function`, in their own modules.

    Raises UsageError for one that is not there.
    """
    for path, role in own.items():
        if not re.fullmatch(r"[\w.]+:\w+", path):
            continue  # A pattern, which may hold a colon too.
        module, _, function = path.partition(":")
        owner = sys.modules.get(module)
        if not callable(getattr(owner, function, None)):
            raise UsageError(f"STAGES: {path}: there is no such function in an imported module")
        yield owner, function, role


def _functions() -> Iterator[tuple[Any, str, str]]:
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("implementations."):
            for function, role in FUNCTIONS.items():
                holder, _, name = function.rpartition(".")
                owner = getattr(module, holder, None) if holder else module
                # A function is wrapped wherever it was imported to; a class is one and the same everywhere.
                if callable(getattr(owner, name, None)) and (not holder or owner.__module__ == module_name):
                    yield owner, name, role


def _wrap(owner: Any, attribute: str, name: str, stages: Stages) -> Callable[[], None]:
    """Put a stage around a call. Returns the function that undoes it."""
    original = getattr(owner, attribute)
    had = vars(owner).get(attribute)

    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        with stages.inside(name):
            return original(*args, **kwargs)

    setattr(owner, attribute, call)
    return (lambda: delattr(owner, attribute)) if had is None else (lambda: setattr(owner, attribute, had))
