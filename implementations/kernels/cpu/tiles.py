"""Tiles that are computed together, of states with time innermost: `(blocks, dim, rows, length)`."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from implementations.kernels.cpu.native.calls import usable
from implementations.kernels.cpu.native.steps import to_innermost, to_outermost

STEPS = 4096
"""Time steps of a tile, about: the tensors of so many that are in use at a time stay in the cache."""


def time_innermost(x: Tensor, together: bool = True) -> Tensor:
    """x `(batch, length, dim)` as states, contiguous; without a copy if they are from `time_outermost`.

    Short rows that may be computed together are one block; else each row is a block of its own, so that its
    channels lie close together.
    """
    short = together and 2 * x.shape[1] <= STEPS
    states = x.permute(2, 0, 1).unsqueeze(0) if short else x.transpose(1, 2).unsqueeze(2)
    if states.is_contiguous() or not _turns_in_c(states):
        return states.contiguous()
    y: Tensor = _Innermost.apply(states)  # type: ignore[no-untyped-call]
    return y


def time_outermost(states: Tensor) -> Tensor:
    """States as `(batch, length, dim)`: a view."""
    return states.permute(0, 2, 3, 1).flatten(0, 1)


def innermost(states: Tensor) -> Tensor:
    """States, contiguous: themselves, or a copy that autograd does not see."""
    if states.is_contiguous() or not _turns_in_c(states):
        return states.contiguous()
    y: Tensor = to_innermost(states)
    return y


def _turns_in_c(states: Tensor) -> bool:
    """Whether C can copy states, whose channels are innermost; torch's own copy takes four times as long."""
    return states.dim() == 4 and states.stride(1) == 1 and usable(states)


class _Innermost(torch.autograd.Function):
    """A contiguous copy of states; their gradient lies in memory as they did."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        y: Tensor = to_innermost(states)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        return to_outermost(grad).permute(0, 3, 1, 2) if usable(grad) else grad


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
