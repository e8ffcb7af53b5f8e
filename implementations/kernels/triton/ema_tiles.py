# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Products of the damped EMA in matrix form, for one channel of one row, on the device.

A tile has a row per chunk of time. A chunk's *own* states are `Σ_j q^(steps−1−j)·u_j` over its inputs, a
column per state; the states in which it *begins* sum those of chunks before it. A direction that looks ahead
runs from the last chunk to the first, and from a chunk's last step to its first: `sign` is −1 there, else 1.
The *slope* of a state is its derivative by ln q.
"""

import triton
import triton.language as tl

BITS = tl.constexpr(9)
"""Bits of a count of chunks."""


@triton.jit
def product(a, b, ACC: tl.constexpr):
    """a·b with nearly all digits of b, which is in ACC, on matrix units.

    float32 is three products in TF32. If a is narrower, b is split in two parts of its type: to round b once
    would be an error in every step.
    """
    if a.dtype == ACC:
        return tl.dot(a, b, input_precision="tf32x3")
    high = b.to(a.dtype)
    low = (b - high.to(ACC)).to(a.dtype)
    return tl.dot(a, high, out_dtype=ACC) + tl.dot(a, low, out_dtype=ACC)


@triton.jit
def load_block(x, chunk, chunks, first, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """Steps `first` to `first + BLOCK` of chunks of a row; zeros for chunks outside of it."""
    at = chunk[:, None] * STEPS + first + tl.arange(0, BLOCK)[None, :]
    inside = ((chunk >= 0) & (chunk < chunks))[:, None]
    return tl.load(x + at, mask=inside, other=0.0)


@triton.jit
def padding_block(padding, chunk, first, length, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """Whether such steps are padding; those outside of the row are."""
    at = chunk[:, None] * STEPS + first + tl.arange(0, BLOCK)[None, :]
    return tl.load(padding + at, mask=(at >= 0) & (at < length), other=1) != 0


@triton.jit
def load_input(
    x, padding, chunk, chunks, first, length,
    PADDED: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Such steps of the average's input: padding is zeros."""
    u = load_block(x, chunk, chunks, first, STEPS, BLOCK)
    if PADDED:
        u = tl.where(padding_block(padding, chunk, first, length, STEPS, BLOCK), 0.0, u).to(u.dtype)
    return u


@triton.jit
def own_states(
    x, padding, log_decay, chunk, chunks, length, sign,
    SLOPE: tl.constexpr,
    PADDED: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    SLOTS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """States of chunks on their own `(TILE, SLOTS)`, and their slopes if asked for."""
    state = tl.zeros((TILE, SLOTS), ACC)
    slope = state
    for first in range(0, STEPS, BLOCK):
        u = load_input(x, padding, chunk, chunks, first, length, PADDED, STEPS, BLOCK)
        step = first + tl.arange(0, BLOCK)
        age = tl.where(sign > 0, STEPS - 1 - step, step)[:, None].to(ACC)
        powers = tl.exp(age * log_decay[None, :])
        state += product(u, powers, ACC)
        if SLOPE:
            slope += product(u, age * powers, ACC)
    return state, slope


@triton.jit
def _shifted(state, chunk, sign, by, TILE: tl.constexpr):
    """The states of the chunks `by` before; zeros if there are none."""
    source = chunk - sign * by
    real = ((source >= 0) & (source < TILE))[:, None]
    index = tl.broadcast_to(tl.where(real, source[:, None], 0), state.shape)
    return tl.where(real, tl.gather(state, index, 0), 0.0)


@triton.jit
def begin_states(
    own, own_slope, log_decay, chunk, sign,
    SLOPE: tl.constexpr,
    LOOKBACK: tl.constexpr,
    STEPS: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """The states in which chunks begin, from the own states of the LOOKBACK chunks before each.

    Windows of 1, 2, 4, … chunks are joined from the last two; those whose sizes add up to LOOKBACK lie one
    behind the other. Nothing is taken away again, so nothing cancels.
    """
    window, window_slope = own, own_slope
    state = tl.zeros_like(own)
    slope = state
    for k in tl.static_range(BITS):
        if LOOKBACK & (1 << k):
            steps = (LOOKBACK & ((1 << k) - 1)) * STEPS
            power = tl.exp(log_decay * steps)[None, :]
            earlier = _shifted(window, chunk, sign, 1 + (LOOKBACK & ((1 << k) - 1)), TILE)
            state += power * earlier
            if SLOPE:
                before = _shifted(window_slope, chunk, sign, 1 + (LOOKBACK & ((1 << k) - 1)), TILE)
                slope += power * (before + steps * earlier)
        if (2 << k) <= LOOKBACK:
            steps = (1 << k) * STEPS
            power = tl.exp(log_decay * steps)[None, :]
            earlier = _shifted(window, chunk, sign, 1 << k, TILE)
            if SLOPE:
                before = _shifted(window_slope, chunk, sign, 1 << k, TILE)
                window_slope += power * (before + steps * earlier)
            window += power * earlier
    return state, slope


@triton.jit
def distance_of(step, sign, STEPS: tl.constexpr, ACC: tl.constexpr):
    """Steps from a chunk's last neighbour to each step of it."""
    return tl.where(sign > 0, step + 1, STEPS - step).to(ACC)
