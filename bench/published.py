"""Published figures, to stand beside measured ones: never mixed into them."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PACKAGED = Path(__file__).parent / "_packaged" / "published"
CHECKOUT = Path(__file__).parent.parent / "results" / "published"


@functools.cache
def long_range_arena() -> Mapping[str, Mapping[str, Any]]:
    """The published Long Range Arena table by implementation name: accuracies, speed, memory, protocol.

    Speed and memory are ratios to the Transformer, training on Text at 4K.
    """
    folder = CHECKOUT if CHECKOUT.is_dir() else PACKAGED
    content = yaml.safe_load((folder / "lra.yaml").read_text(encoding="utf-8"))
    return {row["name"]: row for row in content["models"]}
