"""Origin of a model's code: the files of all modules that were imported to build it."""

import contextlib
import importlib
import os
import sys

from bench.suites.case import Case
from bench.workers.messages import Located
from implementations import registry
from implementations.errors import RegistryError


def locate(case: Case) -> Located:
    """Import and build a case's model. A failure for any reason but a missing name is left to the step that
    runs the model."""
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
    """Build the model, which may import modules only now."""
    import torch

    from bench import workloads
    from bench.steps.step import build_model

    with contextlib.suppress(Exception):
        build_model(case, workloads.load(case.workload).task(case.length), torch.device("cpu"))


def _files() -> dict[str, str]:
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    # torch makes some modules when they are asked for; their files are only names.
    return {name: file for name, file in files.items() if isinstance(file, str) and os.path.isabs(file)}
