# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The damped EMA as a scan in chunks: what runs on the device.

A state of a channel is the average `g_t = Σ_{s<taps} q^s·u_{t−s}`, the channel's output the sum
`Σ_n weight_n·g_t` over its states. A program takes a block of channels through one chunk of time, with one
thread a channel and all the states of a channel in its registers: tuples hold one vector a state.

A step is `g + (decay·g + u)` with `decay = q − 1`, which keeps the digits of a q near 1. What is older than
`taps` leaves by `q^taps·u_{t−taps}`, but within a chunk only: the state in which a chunk begins is summed anew,
over the whole chunks that it reaches back to (`lookback`) and the last `rest` steps of one more, so that no
chunk inherits the rounding of steps that have left.

The *slope* of a state is its derivative by ln q, `Σ_{s<taps} s·q^s·u_{t−s}`; with SLOPE a tuple holds the
slopes after the states. A second set of averages looks ahead: its chunks are the same, its steps go back in
time. The *adjoint* is the average with the directions of the two sets exchanged.
"""

import triton
import triton.language as tl

from implementations.kernels.triton.pointwise_kernels import keep, sigmoid


@triton.jit
def _table(table, rows, inside, STATES: tl.constexpr):
    """Vectors of a table `(kernels, states)`, one a state."""
    vectors = ()
    for n in tl.static_range(STATES):
        vectors = vectors + (tl.load(table + rows * STATES + n, mask=inside, other=0.0),)
    return vectors


@triton.jit
def _powers(log_decay, exponent, STATES: tl.constexpr):
    vectors = ()
    for n in tl.static_range(STATES):
        vectors = vectors + (tl.exp(log_decay[n] * exponent),)
    return vectors


@triton.jit
def _zeros(channels, COUNT: tl.constexpr, ACC: tl.constexpr):
    vectors = ()
    for _ in tl.static_range(COUNT):
        vectors = vectors + ((channels * 0).to(ACC),)
    return vectors



@triton.jit
def _join(earlier, later, power, steps, STATES: tl.constexpr, SLOPE: tl.constexpr):
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
def _load_state(at, dim, channels, limit, COUNT: tl.constexpr):
    vectors = ()
    for n in tl.static_range(COUNT):
        vectors = vectors + (tl.load(at + n * dim + channels, mask=channels < limit, other=0.0),)
    return vectors


@triton.jit
def _store_state(at, state, dim, channels, COUNT: tl.constexpr):
    for n in tl.static_range(COUNT):
        tl.store(at + n * dim + channels, state[n], mask=channels < dim)


@triton.jit
def _enter(
    states,
    order,
    lookback,
    power,
    steps,
    dim,
    channels,
    STATES: tl.constexpr,
    SLOPE: tl.constexpr,
    REST: tl.constexpr,
    ACC: tl.constexpr,
):
    """The state in which the order-th chunk of a row begins; power: q^steps."""
    COUNT: tl.constexpr = STATES * (1 + SLOPE)
    stride = COUNT * (1 + REST) * dim
    state = _zeros(channels, COUNT, ACC)
    if REST:
        oldest = order - lookback - 1
        at = states + tl.maximum(oldest, 0) * stride + COUNT * dim
        state = _load_state(at, dim, channels, tl.where(oldest >= 0, dim, 0), COUNT)
    for chunk in range(tl.maximum(order - lookback, 0), order):
        whole = _load_state(states + chunk * stride, dim, channels, dim, COUNT)
        state = _join(state, whole, power, steps, STATES, SLOPE)
    return state



@triton.jit
def _row_of(source, row, length, dim, channels):
    """The pointers of a source at a row, and the norm's gain and shift of the channels."""
    x, mean, rstd, gain, shift, padding = source
    begin = row * length
    gains = tl.load(gain + channels, mask=channels < dim, other=0.0)
    shifts = tl.load(shift + channels, mask=channels < dim, other=0.0)
    return x + begin * dim, mean + begin, rstd + begin, gains, shifts, padding + begin


@triton.jit
def _step(
    state,
    source,
    decays,
    powers,
    t,
    span,
    length,
    dim,
    channels,
    NORMED: tl.constexpr,
    PADDED: tl.constexpr,
    TRUNCATED: tl.constexpr,
    SLOPE: tl.constexpr,
    STATES: tl.constexpr,
    ACC: tl.constexpr,
):
    """One step on: what stands at t enters and, if TRUNCATED, what stands at `t − span` leaves.

    source: of one row; powers: q^taps; span: taps, or −taps where time runs backwards. Padded steps and those
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


@triton.jit
def chunk_states_kernel(
    source,
    decay,
    log_decay,
    states,
    length,
    dim,
    steps,
    chunks,
    rest,
    ADJOINT: tl.constexpr,
    NORMED: tl.constexpr,
    PADDED: tl.constexpr,
    REST: tl.constexpr,
    SLOPE: tl.constexpr,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    """The state after each chunk on its own, and after its last `rest` steps on their own.

    states `(kernels, rows, chunks, 1 + REST, states and slopes, dim)`, chunks in the order of the kernel.
    Grid `(rows·chunks, channel blocks, kernels)`.
    """
    COUNT: tl.constexpr = STATES * (1 + SLOPE)
    program = tl.program_id(0).to(tl.int64)
    row, order, kernel = program // chunks, program % chunks, tl.program_id(2)
    channels = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channels < dim
    ahead = kernel ^ ADJOINT
    sign = 1 - 2 * ahead
    first = tl.where(ahead == 0, order * steps, (chunks - order) * steps - 1)

    source = _row_of(source, row, length, dim, channels)
    decays = _table(decay, kernel * dim + channels, inside, STATES)
    out = states + (kernel * tl.num_programs(0) + program) * (COUNT * (1 + REST) * dim)
    state = _zeros(channels, COUNT, ACC)
    for i in range(steps - rest):
        at = first + sign * i
        _, state = _step(
            state, source, decays, decays, at, 0, length, dim, channels,
            NORMED, PADDED, False, SLOPE, STATES, ACC,
        )  # fmt: skip
    if REST:
        last = _zeros(channels, COUNT, ACC)
        for i in range(steps - rest, steps):
            at = first + sign * i
            _, last = _step(
                last, source, decays, decays, at, 0, length, dim, channels,
                NORMED, PADDED, False, SLOPE, STATES, ACC,
            )  # fmt: skip
        powers = _powers(_table(log_decay, kernel * dim + channels, inside, STATES), rest, STATES)
        state = _join(state, last, powers, rest, STATES, SLOPE)
        _store_state(out + COUNT * dim, last, dim, channels, COUNT)
    _store_state(out, state, dim, channels, COUNT)


@triton.jit
def average_kernel(
    source,
    coefficients,
    states,
    partial,
    average,
    out,
    seed,
    length,
    dim,
    steps,
    chunks,
    taps,
    lookback,
    ADJOINT: tl.constexpr,
    NORMED: tl.constexpr,
    PADDED: tl.constexpr,
    TRUNCATED: tl.constexpr,
    REST: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    ACTIVATED: tl.constexpr,
    DROPOUT: tl.constexpr,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    """The average plus omega·x, to out; if ACTIVATED that goes to `average`, and silu and dropout of it to out.

    Padding masks what goes into the average, or what comes out of the adjoint, but never omega·x. partial
    `(rows, length, dim)` holds the first direction's share while the second one runs; it may be out or
    average. Grid `(rows·chunks, channel blocks)`.
    """
    program = tl.program_id(0).to(tl.int64)
    row, chunk = program // chunks, program % chunks
    channels = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channels < dim
    weight, decay, log_decay, omega = coefficients
    source = _row_of(source, row, length, dim, channels)
    padding = source[5]
    omegas = tl.load(omega + channels, mask=inside, other=0.0)

    for kernel in tl.static_range(DIRECTIONS):
        ahead = kernel ^ ADJOINT
        sign = 1 - 2 * ahead
        order = chunk + ahead * (chunks - 1 - 2 * chunk)
        first = (chunk + ahead) * steps - ahead
        channels_of_kernel = kernel * dim + channels
        weights = _table(weight, channels_of_kernel, inside, STATES)
        decays = _table(decay, channels_of_kernel, inside, STATES)
        logs = _table(log_decay, channels_of_kernel, inside, STATES)
        powers = _powers(logs, taps, STATES)
        row_states = states + (kernel * tl.num_programs(0) + row * chunks) * (STATES * (1 + REST) * dim)
        state = _enter(
            row_states, order, lookback, _powers(logs, steps, STATES), steps, dim, channels,
            STATES, False, REST, ACC,
        )  # fmt: skip
        for i in range(steps):
            t = first + sign * i
            u, state = _step(
                state, source, decays, powers, t, sign * taps, length, dim, channels,
                NORMED, PADDED and not ADJOINT, TRUNCATED, False, STATES, ACC,
            )  # fmt: skip
            y = weights[0] * state[0]
            for n in tl.static_range(1, STATES):
                y += weights[n] * state[n]
            written = channels < tl.where(t < length, dim, 0)
            at = (row * length + t) * dim + channels
            if PADDED and ADJOINT:
                y = tl.where(tl.load(padding + t, mask=t < length, other=1) != 0, 0.0, y)
            if kernel == 0:
                y += omegas * u
            else:
                y += tl.load(partial + at, mask=written, other=0.0)
            if kernel < DIRECTIONS - 1:
                tl.store(partial + at, y, mask=written)
            elif ACTIVATED:
                tl.store(average + at, y, mask=written)
                tl.store(out + at, y * sigmoid(y) * keep(seed, at, DROPOUT, ACC), mask=written)
            else:
                tl.store(out + at, y, mask=written)
        # Threads of the second direction may read what others wrote in the first one.
        tl.debug_barrier()


@triton.jit
def parameter_gradients_kernel(
    source,
    grad,
    decay,
    log_decay,
    states,
    sums,
    length,
    dim,
    steps,
    chunks,
    taps,
    lookback,
    NORMED: tl.constexpr,
    PADDED: tl.constexpr,
    TRUNCATED: tl.constexpr,
    REST: tl.constexpr,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    """Each chunk's sums over time of grad·state, grad·slope and grad·x.

    grad `(rows, length, dim)` is that of the average; sums `(kernels, rows·chunks, 2·states + 1, dim)`.
    Grid `(rows·chunks, channel blocks, kernels)`.
    """
    COUNT: tl.constexpr = 2 * STATES
    program = tl.program_id(0).to(tl.int64)
    row, order, kernel = program // chunks, program % chunks, tl.program_id(2)
    channels = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channels < dim
    sign = 1 - 2 * kernel
    first = tl.where(kernel == 0, order * steps, (chunks - order) * steps - 1)

    source = _row_of(source, row, length, dim, channels)
    grad += row * length * dim
    decays = _table(decay, kernel * dim + channels, inside, STATES)
    logs = _table(log_decay, kernel * dim + channels, inside, STATES)
    powers = _powers(logs, taps, STATES)
    row_states = states + (kernel * tl.num_programs(0) + row * chunks) * (COUNT * (1 + REST) * dim)
    state = _enter(
        row_states, order, lookback, _powers(logs, steps, STATES), steps, dim, channels, STATES, True, REST, ACC
    )
    total = _zeros(channels, COUNT + 1, ACC)
    for i in range(steps):
        t = first + sign * i
        u, state = _step(
            state, source, decays, powers, t, sign * taps, length, dim, channels,
            NORMED, PADDED, TRUNCATED, True, STATES, ACC,
        )  # fmt: skip
        g = tl.load(grad + t * dim + channels, mask=channels < tl.where(t < length, dim, 0), other=0.0).to(ACC)
        new = ()
        for n in tl.static_range(COUNT):
            new = new + (total[n] + g * state[n],)
        total = new + (total[COUNT] + g * u,)
    _store_state(sums + (kernel * tl.num_programs(0) + program) * ((COUNT + 1) * dim), total, dim, channels, COUNT + 1)
