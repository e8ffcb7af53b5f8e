"""Options of the official class among the keys of recorded configs."""

from collections.abc import Collection, Mapping
from typing import Any

from implementations.official.view import Unsupported

BOOKKEEPING = frozenset({
    *("kind", "layer", "mode", "self", "seed", "scale", "wstd", "ortho"),
    *("B", "T", "Tc", "cache", "lens", "pad", "ppad", "perhead"),
})  # fmt: skip
"""Keys about the recording of a case: seeds, the drawing of weights, the inputs and their lengths. Their
effect is in the recorded tensors."""


def check_options(config: Mapping[str, Any], supported: Collection[str]) -> None:
    """Raise Unsupported if a config sets an option that has no counterpart here."""
    unknown = config.keys() - BOOKKEEPING - set(supported)
    if unknown:
        raise Unsupported(f"no counterpart for {', '.join(sorted(unknown))}")
