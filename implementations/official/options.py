"""Recorded configs: which of their keys are options of the official class."""

from collections.abc import Collection, Mapping
from typing import Any

from implementations.official.view import Unsupported

BOOKKEEPING = frozenset({
    *("kind", "layer", "mode", "self", "seed", "scale", "wstd", "ortho"),
    *("B", "T", "Tc", "cache", "lens", "pad", "ppad", "perhead"),
})  # fmt: skip
"""Keys that say how a case was recorded: seeds, how weights were drawn, which inputs there are and how long.
What they change is in the recorded tensors."""


def check_options(config: Mapping[str, Any], supported: Collection[str]) -> None:
    """Raise Unsupported where a config sets an option that has no counterpart here."""
    unknown = config.keys() - BOOKKEEPING - set(supported)
    if unknown:
        raise Unsupported(f"no counterpart for {', '.join(sorted(unknown))}")
