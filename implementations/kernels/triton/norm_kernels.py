# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Norms over the channels of a step: the kernels.

`gain·(x − mean)·rstd + shift`; the mean is 0 unless CENTRED (layer norm). Tiles are `(rows, channels)`,
with zeros outside of the channels.
"""

import triton
import triton.language as tl

from implementations.ops.norms import EPSILON

EPS = tl.constexpr(EPSILON)


@triton.jit
def moments(x, inside, dim, CENTRED: tl.constexpr):
    """mean and rstd of each row of the tile x."""
    mean = tl.sum(x, axis=1) / dim
    if not CENTRED:
        mean = mean * 0.0
    centred = tl.where(inside, x - mean[:, None], 0.0)
    return mean, 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / dim + EPS)


@triton.jit
def norm_gradient(grad, unit, rstd, dim, CENTRED: tl.constexpr):
    """The gradient of x: grad is that of `unit = (x − mean)·rstd`, zero outside of the channels."""
    along = tl.sum(grad * unit, axis=1) / dim
    result = grad - unit * along[:, None]
    if CENTRED:
        result -= (tl.sum(grad, axis=1) / dim)[:, None]
    return result * rstd[:, None]


@triton.jit
def moments_kernel(
    x,
    mean,
    rstd,
    rows,
    dim,
    CENTRED: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
):
    """mean and rstd `(rows,)` of x `(rows, dim)`. Grid: blocks of rows."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = (row < rows)[:, None] & (channel < dim)[None, :]
    tile = tl.load(x + row[:, None] * dim + channel[None, :], mask=inside, other=0.0).to(ACC)
    m, r = moments(tile, inside, dim, CENTRED)
    tl.store(mean + row, m, mask=row < rows)
    tl.store(rstd + row, r, mask=row < rows)


@triton.jit
def norm_backward_kernel(
    grad,
    x,
    mean,
    rstd,
    gain,
    out,
    sums,
    rows,
    dim,
    CENTRED: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
):
    """The gradient of x to out, and each program's sums for gain and shift `(programs, 2, dim)`."""
    program = tl.program_id(0).to(tl.int64)
    row = program * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = (row < rows)[:, None] & (channel < dim)[None, :]
    at = row[:, None] * dim + channel[None, :]
    g = tl.load(grad + at, mask=inside, other=0.0).to(ACC)
    tile = tl.load(x + at, mask=inside, other=0.0).to(ACC)
    m = tl.load(mean + row, mask=row < rows, other=0.0)
    r = tl.load(rstd + row, mask=row < rows, other=0.0)
    unit = tl.where(inside, (tile - m[:, None]) * r[:, None], 0.0)
    gains = tl.load(gain + channel, mask=channel < dim, other=0.0)
    tl.store(out + at, norm_gradient(g * gains[None, :], unit, r, dim, CENTRED), mask=inside)
    tl.store(sums + program * 2 * dim + channel, tl.sum(g * unit, axis=0), mask=channel < dim)
    tl.store(sums + (program * 2 + 1) * dim + channel, tl.sum(g, axis=0), mask=channel < dim)
