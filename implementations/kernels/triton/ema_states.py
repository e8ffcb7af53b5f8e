# mypy: disable-error-code="no-untyped-def, no-untyped-call, assignment, misc"
# ruff: noqa: RUF005 - triton knows no starred tuples
"""States of the damped EMA, one vector of channels per state, on the device.

A state of a channel is the average `g_t = Σ_{s<taps} q^s·u_{t−s}`; tuples hold the vectors of all states.

A step is `g + (decay·g + u)` with `decay = q − 1`, which keeps the digits of a q near 1. What is older than
`taps` leaves by `q^taps·u_{t−taps}`, but within a chunk only: the state that a chunk begins in is added up
anew, from the whole chunks that it reaches back to (`lookback`) and the last `rest` steps of one more. So no
chunk inherits the rounding of steps that have left.

The *slope* of a state is its derivative by ln q, `Σ_{s<taps} s·q^s·u_{t−s}`; with SLOPE a tuple holds the
slopes after the states.
"""

import triton
import triton.language as tl


@triton.jit
def vectors_of(table, rows, inside, STATES: tl.constexpr):
    """Vectors of a table `(kernels, states)`, one per state."""
    vectors = ()
    for n in tl.static_range(STATES):
        vectors = vectors + (tl.load(table + rows * STATES + n, mask=inside, other=0.0),)
    return vectors


@triton.jit
def powers_of(log_decay, exponent, STATES: tl.constexpr):
    vectors = ()
    for n in tl.static_range(STATES):
        vectors = vectors + (tl.exp(log_decay[n] * exponent),)
    return vectors


@triton.jit
def zeros(channels, COUNT: tl.constexpr, ACC: tl.constexpr):
    vectors = ()
    for _ in tl.static_range(COUNT):
        vectors = vectors + ((channels * 0).to(ACC),)
    return vectors


@triton.jit
def join(earlier, later, power, steps, STATES: tl.constexpr, SLOPE: tl.constexpr):
    """The state after two stretches of time, the later one of `steps` steps; power: q^steps."""
    new = ()
    for n in tl.static_range(STATES):
        new = new + (power[n] * earlier[n] + later[n],)
    if SLOPE:
        for n in tl.static_range(STATES):
            slope = earlier[STATES + n] + steps * earlier[n]
            new = new + (power[n] * slope + later[STATES + n],)
    return new


@triton.jit
def load_state(at, dim, channels, limit, COUNT: tl.constexpr):
    vectors = ()
    for n in tl.static_range(COUNT):
        vectors = vectors + (tl.load(at + n * dim + channels, mask=channels < limit, other=0.0),)
    return vectors


@triton.jit
def store_state(at, state, dim, channels, COUNT: tl.constexpr):
    for n in tl.static_range(COUNT):
        tl.store(at + n * dim + channels, state[n], mask=channels < dim)


@triton.jit
def enter(
    states, order, lookback, power, steps, dim, channels,
    STATES: tl.constexpr,
    SLOPE: tl.constexpr,
    REST: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """The state in which the order-th chunk of a row begins; power: q^steps."""
    COUNT: tl.constexpr = STATES * (1 + SLOPE)
    stride = COUNT * (1 + REST) * dim
    state = zeros(channels, COUNT, ACC)
    if REST:
        oldest = order - lookback - 1
        at = states + tl.maximum(oldest, 0) * stride + COUNT * dim
        state = load_state(at, dim, channels, tl.where(oldest >= 0, dim, 0), COUNT)
    for chunk in range(tl.maximum(order - lookback, 0), order):
        whole = load_state(states + chunk * stride, dim, channels, dim, COUNT)
        state = join(state, whole, power, steps, STATES, SLOPE)
    return state


@triton.jit
def row_of(source, row, length, dim, channels):
    """The pointers of a source at a row, and the norm's gain and shift of the channels."""
    x, mean, rstd, gain, shift, padding = source
    begin = row * length
    gains = tl.load(gain + channels, mask=channels < dim, other=0.0)
    shifts = tl.load(shift + channels, mask=channels < dim, other=0.0)
    return x + begin * dim, mean + begin, rstd + begin, gains, shifts, padding + begin


@triton.jit
def step(
    state, source, decays, powers, t, span, length, dim, channels,
    NORMED: tl.constexpr,
    PADDED: tl.constexpr,
    TRUNCATED: tl.constexpr,
    SLOPE: tl.constexpr,
    STATES: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Advance by one step: the input at t enters and, if TRUNCATED, the input at `t − span` leaves.

    source: of one row; powers: q^taps; span: taps, or −taps if time runs backwards. Padded steps and those
    beyond the sequence count as zeros. Returns the normed x at t, padded or not, and the state.
    """
    x, mean, rstd, gains, shifts, padding = source
    seen = ()
    for which in tl.static_range(1 + TRUNCATED):
        at = t - which * span
        real = (at >= 0) & (at < length)
        inside = channels < tl.where(real, dim, 0)
        value = tl.load(x + at * dim + channels, mask=inside, other=0.0).to(ACC)
        if NORMED:
            value -= tl.load(mean + at, mask=real, other=0.0)
            value *= tl.load(rstd + at, mask=real, other=0.0)
            value = tl.where(inside, value * gains + shifts, 0.0)
        if which == 0:
            u = value
        if PADDED:
            value = tl.where(tl.load(padding + at, mask=real, other=1) != 0, 0.0, value)
        seen = seen + (value,)
    new = ()
    for n in tl.static_range(STATES):
        g = state[n] + (decays[n] * state[n] + seen[0])
        if TRUNCATED:
            g -= powers[n] * seen[1]
        new = new + (g,)
    if SLOPE:
        for n in tl.static_range(STATES):
            both = state[STATES + n] + state[n]
            slope = both + decays[n] * both
            if TRUNCATED:
                slope -= tl.abs(span) * (powers[n] * seen[1])
            new = new + (slope,)
    return u, new
