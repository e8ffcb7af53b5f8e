"""Official checkpoints: their module names, configs and parameter names, mapped to our modules.

One file per system maps the official modules that it knows; `build_module` finds them.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from implementations.official.view import OfficialError, OfficialView, Unsupported

__all__ = ["OfficialError", "OfficialView", "Unsupported", "build_module"]


def build_module(
    system: str,
    module: str,
    config: Mapping[str, Any],
    params: Mapping[str, Tensor],
    variant: str | None = None,
) -> OfficialView:
    """Our equivalent of an official module, loaded with official parameters.

    system: `seqboat`, `s4`, …; module and config: as recorded with the official code (class and keyword
    arguments under their official names); params: tensors by official name, parameters and (if the module
    needs them) buffers; variant: name of a fused form of the system, None for the plain one.

    The module takes its inputs by keyword in the official layout (`x`, `padding_mask`, …) and returns
    `{name: tensor}`; its `named_parameters()` are the official ones. Raises Unsupported for a system,
    module, option or input that has no counterpart here, OfficialError if names or shapes differ.
    """
    path = f"implementations.official.{system}"
    try:
        adapters = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        raise Unsupported(f"no adapter for the system {system!r}") from None
    if module not in adapters.MODULES:
        known = ", ".join(adapters.MODULES)
        raise Unsupported(f"no adapter for {system} module {module!r} (known: {known})")
    view: OfficialView = adapters.MODULES[module](config, variant)
    view.load_official(params)
    if config.get("mode") == "eval":
        view.eval()
    return view
