"""seqboat-bench: speed and memory of sequence models, measured so that the numbers can be trusted.

    import bench

    run = bench.run("lra-text-4k", implementations=["seqboat", "my_model:build"])
    print(run.table())

`run` and `read` give a `Run`; what can't work raises `UsageError`. They are loaded when first used, so that
importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from bench.version import __version__

if TYPE_CHECKING:
    from bench.api import Run, read, run
    from bench.errors import UsageError
    from bench.suites.metrics import Figure
    from bench.workloads.base import Batch, Workload
    from implementations.task import Task

__all__ = ["Batch", "Figure", "Run", "Task", "UsageError", "Workload", "__version__", "read", "run"]

_PLACES = {
    "Batch": "bench.workloads.base",
    "Figure": "bench.suites.metrics",
    "Task": "implementations.task",
    "Workload": "bench.workloads.base",
}
"""Home of each name: parts of plug-ins; the rest is in `bench.api`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES.get(name, "bench.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
