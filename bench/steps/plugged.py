"""Extras of a plug-in beside the function that builds its model: optimiser, stages, reference, its own words.

Its module may have a function `optimizer(model)` and mappings `STAGES` and `REFERENCES`; its model may have
`computed_by`, a text or a function that gives one, and `remarks`, lines.
"""

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bench.errors import UsageError
from bench.suites.case import Case
from implementations import registry
from implementations.errors import RegistryError

LEARNING_RATE = 0.0
"""The optimiser does all its work and moves nothing, so that every step of a case is the same step: a
model that learned while it is timed would change its activation rate, and so its cost."""


def optimizer_for(case: Case, model: nn.Module, *, capturable: bool = False) -> torch.optim.Optimizer:
    """The plug-in's own optimiser over a model's parameters, else Adam.

    capturable: for a CUDA graph, the whole state of Adam is on the device.
    Raises TypeError if the plug-in's function gives something else.
    """
    own = _beside(case, "optimizer")
    if not _is_function(own):
        return adam(model, capturable=capturable)
    optimizer = own(model)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer(model) gives {type(optimizer).__name__}, which is not an optimiser of torch"
        )
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE
    return optimizer


def own_optimizer(case: Case, optimizer: torch.optim.Optimizer) -> str | None:
    """The name of a plug-in's own optimiser; None if it brings none."""
    own = _is_function(_beside(case, "optimizer"))
    return type(optimizer).__name__ if own else None


def _is_function(own: object) -> bool:
    """Whether something beside a model can be called, and is not a class that happens to have the name."""
    return callable(own) and not inspect.isclass(own)


def adam(model: nn.Module, *, capturable: bool = False) -> torch.optim.Adam:
    """Adam over a model's parameters, in one kernel if they allow it: complex ones don't."""
    parameters = list(model.parameters())
    fused = all(parameter.is_floating_point() for parameter in parameters)
    return torch.optim.Adam(
        parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=fused, capturable=capturable
    )


def stages_of(case: Case) -> Mapping[str, str]:
    """The plug-in's names of stages: by a pattern of a module's class, or by `package.module:function`.

    Raises UsageError if they can't be read.
    """
    found = _beside(case, "STAGES")
    if found is None:
        return {}
    name = case.implementation
    if not isinstance(found, Mapping) or not all(
        isinstance(word, str) for pair in found.items() for word in pair
    ):
        raise UsageError(f"{name}: STAGES: give names of stages by classes of modules, both text")
    for pattern in found:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(f"{name}: STAGES: {pattern!r} is not a pattern ({error})") from None
    return found


def reference_of(case: Case) -> str | None:
    """The implementation that computes a case's function by plain means, with the same setting; None if it is
    held against none.

    A card names it, or a plug-in's module: `REFERENCES = {"fused": "build"}`, of two functions of its own, or
    of its own and an implementation by name or path. Raises UsageError if there is no such implementation.
    """
    implementation = registry.find(case.implementation)
    found = None if implementation.reference else _beside(case, "REFERENCES")
    if found is None:
        return implementation.reference
    module, _, function = implementation.path.partition(":")
    plain = found.get(function) if isinstance(found, Mapping) else found
    if plain is None:
        return None
    from implementations import settings  # An older revision, whose models are no plug-ins, may have none.

    if not isinstance(found, Mapping) or not isinstance(plain, str):
        raise UsageError(f"{case.implementation}: REFERENCES: give functions by functions, both as text")
    own = hasattr(importlib.import_module(module), plain)
    try:
        named = registry.find(f"{module}:{plain}" if own else plain).name
    except RegistryError as error:
        raise UsageError(f"{case.implementation}: REFERENCES: {error}") from None
    return settings.Setting(named, implementation.setting).unlabelled


def computed_by(model: nn.Module) -> str | None:
    """The kernels that have computed, in a model's own words; None if it says nothing."""
    said = getattr(model, "computed_by", None)
    if inspect.isfunction(said) or inspect.ismethod(said):
        said = said()
    return " ".join(said.split()) if isinstance(said, str) else None


def remarks(model: nn.Module) -> list[str]:
    """Lines that a model says of itself."""
    said = getattr(model, "remarks", ())
    if not isinstance(said, tuple | list):
        return []
    return [" ".join(line.split()) for line in said if isinstance(line, str)]


def weights_of(model: nn.Module) -> list[str]:
    """A sum of each parameter, by which it is told whether a step moved it."""
    return [repr(parameter.detach().sum().item()) for parameter in model.parameters()]


def _beside(case: Case, name: str) -> Any:
    """An attribute of the module that a plug-in's function is in, which has been imported; else None."""
    implementation = registry.find(case.implementation)
    # The revision that a gate compares with may be older than the field.
    if not getattr(implementation, "plugged_in", ":" in case.implementation):
        return None
    return getattr(importlib.import_module(implementation.path.partition(":")[0]), name, None)
