# mypy: disable-error-code="no-untyped-def, no-untyped-call, assignment, misc"
# ruff: noqa: RUF005 - triton knows no starred tuples
"""The damped EMA as a scan in chunks, on the device.

A program takes 32 channels through one chunk of time, one thread per channel, with all states of a channel in
its registers; see ema_states for what they hold. A second set of averages looks ahead: its chunks are the
same, its steps go back in time. The *adjoint* is the average with the directions of the two sets exchanged.
"""

import triton
import triton.language as tl

from implementations.kernels.triton.ema_states import (
    enter,
    join,
    powers_of,
    row_of,
    step,
    store_state,
    vectors_of,
    zeros,
)
from implementations.kernels.triton.pointwise_kernels import keep, sigmoid


@triton.jit
def chunk_states_kernel(
    source, decay, log_decay, states, length, dim, steps, chunks, rest,
    ADJOINT: tl.constexpr,
    NORMED: tl.constexpr,
    PADDED: tl.constexpr,
    REST: tl.constexpr,
    SLOPE: tl.constexpr,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
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

    source = row_of(source, row, length, dim, channels)
    decays = vectors_of(decay, kernel * dim + channels, inside, STATES)
    out = states + (kernel * tl.num_programs(0) + program) * (COUNT * (1 + REST) * dim)
    state = zeros(channels, COUNT, ACC)
    for i in range(steps - rest):
        at = first + sign * i
        _, state = step(
            state, source, decays, decays, at, 0, length, dim, channels,
            NORMED, PADDED, False, SLOPE, STATES, ACC,
        )  # fmt: skip
    if REST:
        last = zeros(channels, COUNT, ACC)
        for i in range(steps - rest, steps):
            at = first + sign * i
            _, last = step(
                last, source, decays, decays, at, 0, length, dim, channels,
                NORMED, PADDED, False, SLOPE, STATES, ACC,
            )  # fmt: skip
        powers = powers_of(vectors_of(log_decay, kernel * dim + channels, inside, STATES), rest, STATES)
        state = join(state, last, powers, rest, STATES, SLOPE)
        store_state(out + COUNT * dim, last, dim, channels, COUNT)
    store_state(out, state, dim, channels, COUNT)


@triton.jit
def average_kernel(
    source, coefficients, states, partial, average, out, seed, length, dim, steps, chunks, taps, lookback,
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
):  # fmt: skip
    """The average plus omega·x to out; if ACTIVATED to `average`, and silu and dropout of it to out.

    Padding masks what goes into the average, or what comes out of the adjoint, but never omega·x. partial
    `(rows, length, dim)` holds the first direction's share while the second one runs; it may be out or
    average. Grid `(rows·chunks, channel blocks)`.
    """
    program = tl.program_id(0).to(tl.int64)
    row, chunk = program // chunks, program % chunks
    channels = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channels < dim
    weight, decay, log_decay, omega = coefficients
    source = row_of(source, row, length, dim, channels)
    padding = source[5]
    omegas = tl.load(omega + channels, mask=inside, other=0.0)

    for kernel in tl.static_range(DIRECTIONS):
        ahead = kernel ^ ADJOINT
        sign = 1 - 2 * ahead
        order = chunk + ahead * (chunks - 1 - 2 * chunk)
        first = (chunk + ahead) * steps - ahead
        channels_of_kernel = kernel * dim + channels
        weights = vectors_of(weight, channels_of_kernel, inside, STATES)
        decays = vectors_of(decay, channels_of_kernel, inside, STATES)
        logs = vectors_of(log_decay, channels_of_kernel, inside, STATES)
        powers = powers_of(logs, taps, STATES)
        row_states = states + (kernel * tl.num_programs(0) + row * chunks) * (STATES * (1 + REST) * dim)
        state = enter(
            row_states, order, lookback, powers_of(logs, steps, STATES), steps, dim, channels,
            STATES, False, REST, ACC,
        )  # fmt: skip
        for i in range(steps):
            t = first + sign * i
            u, state = step(
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
    source, grad, decay, log_decay, states, sums, length, dim, steps, chunks, taps, lookback,
    NORMED: tl.constexpr,
    PADDED: tl.constexpr,
    TRUNCATED: tl.constexpr,
    REST: tl.constexpr,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
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

    source = row_of(source, row, length, dim, channels)
    grad += row * length * dim
    decays = vectors_of(decay, kernel * dim + channels, inside, STATES)
    logs = vectors_of(log_decay, kernel * dim + channels, inside, STATES)
    powers = powers_of(logs, taps, STATES)
    row_states = states + (kernel * tl.num_programs(0) + row * chunks) * (COUNT * (1 + REST) * dim)
    state = enter(
        row_states,
        order,
        lookback,
        powers_of(logs, steps, STATES),
        steps,
        dim,
        channels,
        STATES,
        True,
        REST,
        ACC,
    )
    total = zeros(channels, COUNT + 1, ACC)
    for i in range(steps):
        t = first + sign * i
        u, state = step(
            state, source, decays, powers, t, sign * taps, length, dim, channels,
            NORMED, PADDED, TRUNCATED, True, STATES, ACC,
        )  # fmt: skip
        g = tl.load(grad + t * dim + channels, mask=channels < tl.where(t < length, dim, 0), other=0.0).to(
            ACC
        )
        new = ()
        for n in tl.static_range(COUNT):
            new = new + (total[n] + g * state[n],)
        total = new + (total[COUNT] + g * u,)
    store_state(
        sums + (kernel * tl.num_programs(0) + program) * ((COUNT + 1) * dim), total, dim, channels, COUNT + 1
    )
