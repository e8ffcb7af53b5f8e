"""A stream of tokens to model: its parts, and excerpts of it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.workloads.base import Batch
from bench.workloads.splits import PARTS, Split, generator_of

MAX_LENGTH = 1 << 18


def part_of(content: npt.NDArray[Any], split: Split) -> npt.NDArray[Any]:
    """The tokens `(size,)` of a split: the last part is for validation, as with enwik8."""
    border = content.size - content.size // PARTS
    parts = {"all": content, "train": content[:border], "validation": content[border:]}
    return parts[split]


def excerpts(
    content: npt.NDArray[Any], length: int, batch: int, seed: int, index: int, split: Split
) -> Batch:
    """Excerpts of a split's tokens `(size,)` that start anywhere; the targets are one token ahead.

    Token t of the stream is t + 1 in the batch, so that 0 stays the padding token. There must be more tokens
    than the length.
    """
    generator = generator_of(seed, index, length, split)
    starts = generator.integers(content.size - length, size=batch)
    tokens = content[starts[:, None] + np.arange(length + 1)].astype(np.int64) + 1
    return Batch(inputs=tokens[:, :-1].copy(), lengths=None, targets=tokens[:, 1:].copy())
