# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Active steps out of their sequences and back: the kernels."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["capacity"])
def place_kernel(
    active,
    inclusive,
    offsets,
    in_place,
    index,
    row,
    time,
    place,
    slot,
    steps,
    length,
    capacity,
    BLOCK: tl.constexpr,
):
    """Write the place of each active step, and the origin of each packed step. Grid: blocks of steps.

    inclusive `(steps,)`: active steps up to this one; offsets `(rows,)`: those in earlier rows. A step beyond
    the capacity goes nowhere.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < steps
    goes = tl.load(inclusive + at, mask=inside, other=0) - 1
    is_active = tl.load(active + at, mask=inside, other=0) != 0
    packed = inside & is_active & (goes < capacity)
    of_row, of_time = at // length, at % length
    rank = goes - tl.load(offsets + of_row, mask=inside, other=0)
    tl.store(slot + at, tl.where(packed, goes, -1), mask=inside)
    tl.store(index + goes, at, mask=packed)
    tl.store(row + goes, of_row, mask=packed)
    tl.store(time + goes, of_time, mask=packed)
    tl.store(place + goes, tl.where(tl.load(in_place) != 0, of_time, rank), mask=packed)


@triton.jit(do_not_specialize=["steps"])
def take_kernel(x, index, out, steps, dim, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """`out[i] = x[index[i]]`, zeros where the index is negative. Grid: blocks of steps."""
    step = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    source = tl.load(index + step, mask=step < steps, other=-1)
    inside = channel[None, :] < dim
    taken = (source >= 0)[:, None] & inside
    tile = tl.load(x + source[:, None] * dim + channel[None, :], mask=taken, other=0.0)
    tl.store(out + step[:, None] * dim + channel[None, :], tile, mask=(step < steps)[:, None] & inside)
