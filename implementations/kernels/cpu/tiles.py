"""Tiles that are computed together, of states with time innermost: `(blocks, dim, rows, length)`."""

from typing import NamedTuple

from torch import Tensor

STEPS = 4096
"""Time steps of a tile, about: the tensors of so many that are in use at a time stay in the cache."""


def time_innermost(x: Tensor, together: bool = True) -> Tensor:
    """x `(batch, length, dim)` as states, contiguous; without a copy if they are from `time_outermost`.

    Short rows that may be computed together are one block; else each row is a block of its own, so that its
    channels lie close together.
    """
    if together and 2 * x.shape[1] <= STEPS:
        return x.permute(2, 0, 1).unsqueeze(0).contiguous()
    return x.transpose(1, 2).unsqueeze(2).contiguous()


def time_outermost(states: Tensor) -> Tensor:
    """States as `(batch, length, dim)`: a view."""
    return states.permute(0, 2, 3, 1).flatten(0, 1)


class Place(NamedTuple):
    """Place of a tile."""

    block: int
    rows: slice
    """Rows within the block."""
    batch: slice
    """Rows within the batch."""

    def of(self, states: Tensor) -> Tensor:
        """`(dim, rows, length)`: the tile of states, a view."""
        return states[self.block][:, self.rows]

    def flat(self, states: Tensor) -> Tensor:
        """`(dim, steps)`: its rows one after another, a view."""
        return self.of(states).flatten(1)


def places(states: Tensor) -> list[Place]:
    """The tiles of states."""
    blocks, _, rows, length = states.shape
    most = max(1, STEPS // length)
    parts = [slice(first, min(first + most, rows)) for first in range(0, rows, most)]
    return [
        Place(block, part, slice(block * rows + part.start, block * rows + part.stop))
        for block in range(blocks)
        for part in parts
    ]
