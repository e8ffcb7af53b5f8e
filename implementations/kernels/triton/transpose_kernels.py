# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""States `(rows, length, dim)` to `(dim, rows, time)` and back, with what is done per element on the way.

Time is the length up to whole chunks. A tile is one of steps of a row and channels.
"""

import triton
import triton.language as tl

from implementations.kernels.triton.pointwise_kernels import keep, sigmoid, silu_slope


@triton.jit
def _tile(length, dim, time, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Step and channel of each element, its place in both forms, and its step's number."""
    tiles = tl.cdiv(time, ROWS)
    program = tl.program_id(0).to(tl.int64)
    row = program // tiles
    t = (program % tiles) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    rows = tl.num_programs(0) // tiles
    number = row * length + t
    turned = (channel.to(tl.int64) * rows + row) * time + t
    return t, channel, number * dim + channel, turned, number


@triton.jit
def to_channels_kernel(
    x, mean, rstd, gain, shift, out, length, dim, time,
    NORMED: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """x, or its norm if NORMED, with zeros after the length. Grid: tiles of steps, of channels."""
    t, channel, natural, turned, number = _tile(length, dim, time, ROWS, CHANNELS)
    inside = (t < length) & (channel < dim)
    value = tl.load(x + natural, mask=inside, other=0.0)
    if NORMED:
        value = value.to(ACC) - tl.load(mean + number, mask=t < length, other=0.0)
        value *= tl.load(rstd + number, mask=t < length, other=0.0)
        gains = tl.load(gain + channel, mask=channel < dim, other=0.0)
        shifts = tl.load(shift + channel, mask=channel < dim, other=0.0)
        value = tl.where(inside, value * gains + shifts, 0.0)
    tl.store(out + turned, value, mask=(t < time) & (channel < dim))


@triton.jit
def gradient_to_channels_kernel(
    grad, average, seed, out, length, dim, time,
    DROPOUT: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradient of the average from that of `dropout(silu(average))`. Grid as above."""
    t, channel, natural, turned, _ = _tile(length, dim, time, ROWS, CHANNELS)
    inside = (t < length) & (channel < dim)
    g = tl.load(grad + natural, mask=inside, other=0.0).to(ACC)
    slope = silu_slope(tl.load(average + natural, mask=inside, other=0.0).to(ACC))
    g *= slope * keep(seed, natural, DROPOUT, ACC)
    tl.store(out + turned, g, mask=(t < time) & (channel < dim))


@triton.jit
def from_channels_kernel(
    turned_average, average, out, seed, length, dim, time,
    ACTIVATED: tl.constexpr,
    DROPOUT: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """The average to `average` and, if ACTIVATED, silu and dropout of it to out. Grid as above."""
    t, channel, natural, turned, _ = _tile(length, dim, time, ROWS, CHANNELS)
    inside = (t < length) & (channel < dim)
    y = tl.load(turned_average + turned, mask=inside, other=0.0)
    tl.store(average + natural, y, mask=inside)
    if ACTIVATED:
        y = y.to(ACC)
        tl.store(out + natural, y * sigmoid(y) * keep(seed, natural, DROPOUT, ACC), mask=inside)
