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

__all__ = ["Run", "UsageError", "__version__", "read", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("bench.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
