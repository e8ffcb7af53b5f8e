"""Steps of states `(channels, steps)` taken out of them or added to them, with dropout: in C if it can be."""

from typing import NamedTuple

import torch
from torch import Tensor

from implementations.kernels.cpu.dropout import copy, draw, drop_
from implementations.kernels.cpu.native.calls import draw_seed, usable
from implementations.kernels.cpu.native.steps import add_steps, take_steps, write_dropped_sum


class Dropout(NamedTuple):
    """Elements that are dropped, in the forward pass and again in the backward pass."""

    probability: float
    seed: int
    """Seed of the kernels in C."""
    indices: Tensor | None
    """Flat indices, where they don't compute; None without dropout."""

    @classmethod
    def of(cls, x: Tensor, count: int, probability: float) -> "Dropout":
        """Drawn for that many elements of the kind of x, from torch's global generator."""
        if usable(x):
            return cls(probability, draw_seed(probability), None)
        return cls(probability, 0, draw(count, probability))


KEPT = Dropout(0.0, 0, None)
"""Without any."""


def take(x: Tensor, steps: Tensor, dropout: Dropout = KEPT) -> Tensor:
    """Dropout of some steps `(count,)` of x `(channels, all)`; without dropout x itself if they are all."""
    if len(steps) == x.shape[1]:
        return dropped(x, dropout) if dropout.probability else x
    if usable(x):
        y: Tensor = take_steps(_with_rows(x), steps, dropout.probability, dropout.seed)
        return y
    return drop_(x.index_select(1, steps), dropout.indices, dropout.probability)


def dropped(x: Tensor, dropout: Dropout) -> Tensor:
    """Dropout of x `(channels, steps)`: a copy."""
    if usable(x):
        y: Tensor = take_steps(_with_rows(x), None, dropout.probability, dropout.seed)
        return y
    return drop_(copy(x), dropout.indices, dropout.probability)


def add_(x: Tensor, steps: Tensor, part: Tensor, dropout: Dropout = KEPT) -> None:
    """Add dropout of a part `(channels, count)`, which is lost, to some steps of x `(channels, all)`."""
    if len(steps) == x.shape[1]:
        dropped_sum(x, part, dropout, out=x)
    elif usable(x):
        add_steps(x, steps, part, dropout.probability, dropout.seed)
    else:
        x.index_add_(1, steps, drop_(part, dropout.indices, dropout.probability))


def dropped_sum(x: Tensor, part: Tensor, dropout: Dropout, out: Tensor) -> None:
    """Write `x + dropout(part)` to out, which may be x; part `(channels, steps)` is lost."""
    if usable(x):
        write_dropped_sum(x, part, out, dropout.probability, dropout.seed)
    else:
        torch.add(drop_(part, dropout.indices, dropout.probability), x, out=out)


def _with_rows(x: Tensor) -> Tensor:
    """x with contiguous rows, as C reads them: what was dropped in C has to be dropped there again."""
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()
