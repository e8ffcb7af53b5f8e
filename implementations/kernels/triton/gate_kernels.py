# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Queries, keys, values and gates from one projection: the kernels.

A step of base is `(z | r | v)`, `dim + hidden + hidden` numbers; each goes through silu. Queries and keys
are `z·gamma + beta`, turned by the step's angles if ROTARY: channel c of a pair with its partner c ^ 1. The
programs with index 0 on the grid's second axis do queries and keys, the others blocks of the columns
`(r | v)`.
"""

import triton
import triton.language as tl

from implementations.kernels.triton.pointwise_kernels import keep, sigmoid, silu_slope


@triton.jit
def _angles(cos, sin, time, step, steps, channel, dim):
    """cos, and the sine's factor of the partner, `(steps, channels)`, of tables `(length, dim/2)`."""
    when = tl.load(time + step, mask=step < steps, other=0)
    at = when[:, None] * (dim // 2) + (channel // 2)[None, :]
    inside = (step < steps)[:, None] & (channel < dim)[None, :]
    sign = (2 * (channel % 2) - 1)[None, :]
    return tl.load(cos + at, mask=inside, other=0.0), sign * tl.load(sin + at, mask=inside, other=0.0)


@triton.jit
def _query_or_key(z, partner, gamma, beta, channel, dim, cos, sin, ROTARY: tl.constexpr):
    inside = channel < dim
    own = z * tl.load(gamma + channel, mask=inside, other=0.0)[None, :]
    own += tl.load(beta + channel, mask=inside, other=0.0)[None, :]
    if ROTARY:
        other = partner * tl.load(gamma + (channel ^ 1), mask=inside, other=0.0)[None, :]
        other += tl.load(beta + (channel ^ 1), mask=inside, other=0.0)[None, :]
        own = own * cos + other * sin
    return own


@triton.jit
def _silu_tile(base, row, column, inside, width, ACC: tl.constexpr):
    x = tl.load(base + row[:, None] * width + column[None, :], mask=inside, other=0.0).to(ACC)
    return x * sigmoid(x)


@triton.jit
def _put_queries_and_keys(
    base, gamma, beta, cos, sin, time, q, k, step, total, steps, dim, width,
    ROTARY: tl.constexpr, DIM: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    channel = tl.arange(0, DIM)
    inside = (step < steps)[:, None] & (channel < dim)[None, :]
    z = _silu_tile(base, step, channel, inside, width, ACC)
    partner, c, s = z, z, z
    if ROTARY:
        partner = _silu_tile(base, step, channel ^ 1, inside, width, ACC)
        c, s = _angles(cos, sin, time, step, total, channel, dim)
    at = step[:, None] * dim + channel[None, :]
    tl.store(q + at, _query_or_key(z, partner, gamma, beta, channel, dim, c, s, ROTARY), mask=inside)
    key = _query_or_key(z, partner, gamma + dim, beta + dim, channel, dim, c, s, ROTARY)
    tl.store(k + at, key, mask=inside)


@triton.jit
def _put_gates_and_values(
    base, r, v, seed, step, steps, column, hidden, width,
    DROPOUT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """column: of `(r | v)`, the columns of base from `width − 2·hidden` on."""
    rows = (step < steps)[:, None]
    inside = rows & (column < 2 * hidden)[None, :]
    x = _silu_tile(base, step, width - 2 * hidden + column, inside, width, ACC)
    at = step[:, None] * hidden + column[None, :]
    tl.store(r + at, x, mask=rows & (column < hidden)[None, :])
    at -= hidden
    of_v = rows & ((column >= hidden) & (column < 2 * hidden))[None, :]
    tl.store(v + at, x * keep(seed, at, DROPOUT, ACC), mask=of_v)


@triton.jit(do_not_specialize=["steps"])
def gates_kernel(
    base, gamma, beta, cos, sin, time, q, k, r, v, seed, offsets, last, steps, dim, hidden,
    ROTARY: tl.constexpr,
    DROPOUT: tl.constexpr,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
    COLUMNS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """q, k `(steps, dim)`, r, v `(steps, hidden)` of base. Grid: blocks of steps, 1 + blocks of columns."""
    step = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    width = dim + 2 * hidden
    block = tl.program_id(1)
    if block == 0:
        total = tl.load(offsets + last)
        _put_queries_and_keys(
            base, gamma, beta, cos, sin, time, q, k, step, total, steps, dim, width, ROTARY, DIM, ACC
        )
    else:
        column = (block - 1) * COLUMNS + tl.arange(0, COLUMNS)
        _put_gates_and_values(base, r, v, seed, step, steps, column, hidden, width, DROPOUT, ACC)


@triton.jit
def _queries_and_keys_backward(
    base, gamma, cos, sin, time, grad_q, grad_k, grad_base, sums, step, total, steps, dim, width,
    ROTARY: tl.constexpr, DIM: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """sums: this program's `(4, dim)`."""
    channel = tl.arange(0, DIM)
    real = channel < dim
    inside = (step < steps)[:, None] & real[None, :]
    at = step[:, None] * dim + channel[None, :]
    gq = tl.load(grad_q + at, mask=inside, other=0.0).to(ACC)
    gk = tl.load(grad_k + at, mask=inside, other=0.0).to(ACC)
    if ROTARY:
        c, s = _angles(cos, sin, time, step, total, channel, dim)
        of_partner = step[:, None] * dim + (channel ^ 1)[None, :]
        gq = gq * c - tl.load(grad_q + of_partner, mask=inside, other=0.0).to(ACC) * s
        gk = gk * c - tl.load(grad_k + of_partner, mask=inside, other=0.0).to(ACC) * s
    of_base = step[:, None] * width + channel[None, :]
    x = tl.load(base + of_base, mask=inside, other=0.0).to(ACC)
    z = x * sigmoid(x)
    by_q = tl.load(gamma + channel, mask=real, other=0.0)[None, :]
    by_k = tl.load(gamma + dim + channel, mask=real, other=0.0)[None, :]
    tl.store(grad_base + of_base, (gq * by_q + gk * by_k) * silu_slope(x), mask=inside)
    tl.store(sums + channel, tl.sum(gq * z, axis=0), mask=real)
    tl.store(sums + dim + channel, tl.sum(gk * z, axis=0), mask=real)
    tl.store(sums + 2 * dim + channel, tl.sum(gq, axis=0), mask=real)
    tl.store(sums + 3 * dim + channel, tl.sum(gk, axis=0), mask=real)


@triton.jit
def _gates_and_values_backward(
    base, grad_r, grad_v, grad_base, seed, step, steps, column, hidden, width,
    DROPOUT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    rows = (step < steps)[:, None]
    at = step[:, None] * hidden + column[None, :]
    g = tl.load(grad_r + at, mask=rows & (column < hidden)[None, :], other=0.0).to(ACC)
    at -= hidden
    of_v = rows & ((column >= hidden) & (column < 2 * hidden))[None, :]
    g += tl.load(grad_v + at, mask=of_v, other=0.0).to(ACC) * keep(seed, at, DROPOUT, ACC)
    of_base = step[:, None] * width + (width - 2 * hidden + column)[None, :]
    inside = rows & (column < 2 * hidden)[None, :]
    x = tl.load(base + of_base, mask=inside, other=0.0).to(ACC)
    tl.store(grad_base + of_base, g * silu_slope(x), mask=inside)


@triton.jit(do_not_specialize=["steps"])
def gates_backward_kernel(
    base, gamma, beta, cos, sin, time, grad_q, grad_k, grad_r, grad_v, grad_base, sums,
    seed, offsets, last, steps, dim, hidden,
    ROTARY: tl.constexpr,
    DROPOUT: tl.constexpr,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
    COLUMNS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """The gradient of base, and each program's sums for gamma and beta `(programs, 4, dim)`."""
    program = tl.program_id(0).to(tl.int64)
    step = program * ROWS + tl.arange(0, ROWS)
    width = dim + 2 * hidden
    block = tl.program_id(1)
    if block == 0:
        _queries_and_keys_backward(
            base, gamma, cos, sin, time, grad_q, grad_k, grad_base, sums + program * 4 * dim,
            step, tl.load(offsets + last), steps, dim, width, ROTARY, DIM, ACC,
        )  # fmt: skip
    else:
        column = (block - 1) * COLUMNS + tl.arange(0, COLUMNS)
        _gates_and_values_backward(
            base, grad_r, grad_v, grad_base, seed, step, steps, column, hidden, width, DROPOUT, ACC
        )
