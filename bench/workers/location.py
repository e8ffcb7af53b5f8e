"""Where a model's code comes from: what was imported to build it, file by file."""

import contextlib
import importlib
import os
import sys

from bench.suites.case import Case
from bench.workers.messages import Located
from implementations import registry
from implementations.errors import RegistryError


def locate(case: Case) -> Located:
    """Import and build a case's model. What fails for another reason than a missing name is left to the step
    that runs it."""
    try:
        path = registry.find(case.implementation).path
    except RegistryError as error:
        return Located(path="", missing=str(error), files={})
    module, _, function = path.partition(":")
    missing = None
    try:
        if not hasattr(importlib.import_module(module), function):
            missing = f"{module} has no {function}"
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            missing = f"no module named {error.name}"
    except Exception:
        pass
    if missing is None:
        _build(case)
    return Located(path=path, missing=missing, files=_files())


def _build(case: Case) -> None:
    """A model may import what it needs as late as this."""
    import torch

    from bench import workloads
    from bench.steps.step import build_model

    with contextlib.suppress(Exception):
        build_model(case, workloads.load(case.workload).task(case.length), torch.device("cpu"))


def _files() -> dict[str, str]:
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    # torch has modules that are made as they are asked for; their files are names alone.
    return {name: file for name, file in files.items() if isinstance(file, str) and os.path.isabs(file)}
