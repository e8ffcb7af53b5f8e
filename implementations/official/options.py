"""Recorded configs: which of their keys are options of the official class."""

from collections.abc import Collection, Mapping
from typing import Any

from implementations.official.view import Unsupported

BOOKKEEPING = frozenset({"kind", "seed", "scale", "T", "pad", "ppad", "lens", "mode", "layer", "B"})
"""Keys that say how a case was recorded, or how long its inputs are."""


def check_options(config: Mapping[str, Any], supported: Collection[str]) -> None:
    """Raise Unsupported where a config sets an option that has no counterpart here."""
    unknown = config.keys() - BOOKKEEPING - set(supported)
    if unknown:
        raise Unsupported(f"no counterpart for {', '.join(sorted(unknown))}")
