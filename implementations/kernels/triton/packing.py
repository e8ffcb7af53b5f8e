"""Packed active steps: those of all rows one after another, without any padding.

The plain forms are `compress` and `extract` of `implementations.ops.sma`. There each row of the working
memory is as long as the densest one; here a row is as long as it has active steps.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from implementations.kernels.triton.launch import blocks, launch, row_block
from implementations.kernels.triton.packing_kernels import place_kernel, take_kernel
from implementations.kernels.triton.work import Work
from implementations.ops.sizes import expected

BLOCK = 1024
STEPS = 16
"""Capacities are multiples of this: Triton compiles anew for a count that it takes for another kind of
number, and for a buffer that does not begin at a multiple of 16 bytes."""


@dataclass(frozen=True)
class Packing:
    """Maps between packed steps and their places in the batch: all int64, all on the device.

    A packed buffer has `capacity` steps. The first `offsets[-1]` of them are active steps; the others are
    *dead*: zeros, which nothing reads.
    """

    offsets: Tensor
    """`(rows + 1,)`: first packed step of each row."""
    counts: Tensor
    """`(rows,)`: number of keys that scores are divided by."""
    index: Tensor
    """`(capacity,)`: the place of a packed step in the flattened batch; −1 for a dead one."""
    row: Tensor
    """`(capacity,)`: its row; unspecified, as the following two, for a dead step."""
    time: Tensor
    """`(capacity,)`: its original position."""
    place: Tensor
    """`(capacity,)`: its position in the working memory, which distances are counted in."""
    slot: Tensor
    """`(rows·length,)`: the packed step that a step of the batch becomes, −1 for an inactive one."""
    hidden: Tensor | None = None
    """`(capacity,)` boolean, True at steps that no query attends to; None if there are none."""

    @property
    def capacity(self) -> int:
        return self.index.shape[0]

    @classmethod
    def of(cls, active: Tensor, dense: float = 1.0, capacity: int | None = None) -> "Packing":
        """Packing of the active steps, active `(rows, length)` boolean.

        The working memory is compressed, or the whole sequence with its inactive steps hidden once the
        densest row is `dense` or denser, as in `choose_steps`. The device decides on it: without compression
        the places are the original positions, and nothing else changes.

        Waits for the device once, for the number of active steps; not if a capacity is given. More active
        steps than that are an error, which the device raises.
        """
        rows, length = active.shape
        inclusive = active.flatten().cumsum(0)
        offsets = F.pad(inclusive.view(rows, length)[:, -1], (1, 0))
        counts = offsets.diff()
        in_place = counts.max() >= math.ceil(dense * length)
        if capacity is None:
            assumed = expected()
            count = int(offsets[-1]) if assumed is None else rows * assumed.active(length)
            capacity = in_whole_blocks(count)
        else:
            torch._assert_async(offsets[-1] <= capacity, f"more than {capacity} active steps: the capacity")
        index = torch.full((capacity,), -1, dtype=torch.int64, device=active.device)
        row, time, place = torch.empty(3, capacity, dtype=torch.int64, device=active.device)
        slot = torch.empty_like(inclusive)
        launch(
            place_kernel,
            (blocks(rows * length, BLOCK),),
            active.contiguous(),
            inclusive,
            offsets,
            in_place,
            index,
            row,
            time,
            place,
            slot,
            rows * length,
            length,
            capacity,
            BLOCK=BLOCK,
            work=lambda: Work((active, inclusive, slot, index, row, time, place)),
        )
        return cls(offsets.clamp(max=capacity), counts, index, row, time, place, slot)

    @classmethod
    def rows_of(cls, rows: int, length: int, hidden: Tensor | None, device: torch.device) -> "Packing":
        """Every step of `rows` sequences in its place; hidden `(rows, length)` or None."""
        index = torch.arange(rows * length, device=device)
        time = index % length
        offsets = torch.arange(0, (rows + 1) * length, length, device=device)
        if hidden is None:
            return cls(offsets, offsets.diff(), index, index // length, time, time, index)
        counts = (~hidden).sum(dim=1).clamp(min=1)
        return cls(offsets, counts, index, index // length, time, time, index, hidden.flatten().contiguous())


def in_whole_blocks(count: int) -> int:
    """Capacity of a buffer for that many steps."""
    return max(1, blocks(count, STEPS)) * STEPS


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return _take(x, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = ctx.saved_tensors
        return _take(grads[0].contiguous(), back), None, None


def _take(x: Tensor, index: Tensor) -> Tensor:
    steps, dim = index.shape[0], x.shape[-1]
    out = x.new_empty(steps, dim)
    rows, channels = row_block(dim)
    launch(
        take_kernel,
        (blocks(steps, rows),),
        x,
        index,
        out,
        steps,
        dim,
        ROWS=rows,
        CHANNELS=channels,
        # As much of x as of the result.
        work=lambda: Work((index, out, out)),
    )
    return out


def pack(x: Tensor, packing: Packing) -> Tensor:
    """Active steps of x `(rows, length, dim)`: `(capacity, dim)`, zeros at dead steps."""
    flat = x.flatten(0, 1).contiguous()
    packed: Tensor = _Take.apply(flat, packing.index, packing.slot)  # type: ignore[no-untyped-call]
    return packed


def unpack(h: Tensor, packing: Packing, rows: int) -> Tensor:
    """Packed steps `(capacity, dim)` back in place: `(rows, length, dim)`, zeros at inactive steps."""
    out: Tensor = _Take.apply(h.contiguous(), packing.slot, packing.index)  # type: ignore[no-untyped-call]
    return out.view(rows, -1, h.shape[-1])
