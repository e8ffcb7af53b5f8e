"""Optional libraries: imported, or one line that says how to get them."""

import importlib
from types import ModuleType

from bench.errors import UsageError


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an extra. Raises UsageError, which names the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(f'needs {module}: pip install "seqboat-bench[{extra}]"') from None
