# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The damped EMA in matrix form, on the device: a program takes one channel of one row.

Its tile has a row per chunk of time. Chunks in reach enter by their states, chunks partly in reach and the
chunk itself by products with Toeplitz matrices of taps (see chunks.Chunks). x, grad and out are
`(dim, rows, time)`, of whole chunks. The *adjoint* is the average with its directions exchanged.
"""

import triton
import triton.language as tl

from implementations.kernels.triton.ema_tiles import (
    begin_states,
    distance_of,
    load_block,
    load_input,
    own_states,
    padding_block,
    product,
)


@triton.jit
def _reach(matrix, EDGE: tl.constexpr, DIRECTIONS: tl.constexpr):
    """Number of chunks that the inputs of a Toeplitz matrix are earlier, negative if they are later."""
    edge, ahead = (matrix - 1) // DIRECTIONS, (matrix - 1) % DIRECTIONS
    return tl.where(matrix == 0, 0, (EDGE + edge) * (1 - 2 * ahead))


@triton.jit
def _coefficients(table, direction, dim, channel, STATES: tl.constexpr, SLOTS: tl.constexpr):
    """A channel's row of a table `(directions·dim, states)`, zeros after it."""
    n = tl.arange(0, SLOTS)
    return tl.load(table + (direction * dim + channel) * STATES + n, mask=n < STATES, other=0.0)


@triton.jit
def average_kernel(
    x, padding, weight, log_decay, omega, taps, out, length, dim, chunks,
    ADJOINT: tl.constexpr,
    PADDED: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
    SLICE: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    EDGE: tl.constexpr,
    EDGES: tl.constexpr,
    LOOKBACK: tl.constexpr,
    TILE: tl.constexpr,
    STATES: tl.constexpr,
    SLOTS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """The average of x plus omega·x. Grid: rows, channels, blocks of a chunk.

    Padding masks what goes into the average, or what comes out of the adjoint, but never omega·x.
    """
    MATRICES: tl.constexpr = 1 + EDGES * DIRECTIONS
    MASKED: tl.constexpr = PADDED and not ADJOINT
    row, channel = tl.program_id(0).to(tl.int64), tl.program_id(1)
    begin = (channel * tl.num_programs(0).to(tl.int64) + row) * chunks * STEPS
    x += begin
    padding += row * length
    turn = 1 - 2 * ADJOINT
    chunk = tl.arange(0, TILE)
    own_first = tl.program_id(2) * BLOCK
    step = own_first + tl.arange(0, BLOCK)

    result = tl.zeros((TILE, BLOCK), ACC)
    for matrix in range(MATRICES):
        source = chunk - turn * _reach(matrix, EDGE, DIRECTIONS)
        table = taps + (channel * MATRICES + matrix) * (2 * STEPS)
        for first in range(0, STEPS, SLICE):
            u = load_input(x, padding, source, chunks, first, length, MASKED, STEPS, SLICE)
            lag = step[None, :] - (first + tl.arange(0, SLICE))[:, None]
            result += product(u, tl.load(table + turn * lag + STEPS), ACC)
    if LOOKBACK > 0:
        for direction in range(DIRECTIONS):
            sign = turn * (1 - 2 * direction)
            logs = _coefficients(log_decay, direction, dim, channel, STATES, SLOTS)
            own, _ = own_states(
                x, padding, logs, chunk, chunks, length, sign, False, MASKED, STEPS, SLICE, TILE, SLOTS, ACC
            )
            state, _ = begin_states(own, own, logs, chunk, sign, False, LOOKBACK, STEPS, TILE)
            weights = _coefficients(weight, direction, dim, channel, STATES, SLOTS)
            distance = distance_of(step, sign, STEPS, ACC)
            result += product(state, weights[:, None] * tl.exp(logs[:, None] * distance[None, :]), ACC)
    if PADDED and ADJOINT:
        result = tl.where(padding_block(padding, chunk, own_first, length, STEPS, BLOCK), 0.0, result)
    result += tl.load(omega + channel) * load_block(x, chunk, chunks, own_first, STEPS, BLOCK).to(ACC)
    at = chunk[:, None] * STEPS + step[None, :]
    tl.store(out + begin + at, result, mask=(chunk < chunks)[:, None])


@triton.jit
def parameter_sums_kernel(
    x, grad, padding, log_decay, sums, length, dim, chunks,
    PADDED: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
    SLICE: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    EDGE: tl.constexpr,
    EDGES: tl.constexpr,
    LOOKBACK: tl.constexpr,
    TILE: tl.constexpr,
    STATES: tl.constexpr,
    SLOTS: tl.constexpr,
    WIDTH: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Sums over time from the gradient of the average, for one pair of an output's and an input's block.

    sums `(rows, dim, parts², WIDTH)`: the gradient of each tap of each Toeplitz matrix, by lag within the
    pair from −BLOCK, `(matrices, 2·BLOCK)`; then for each direction that of each weight and that of each
    ln q over its weight, as far as they come by states, `(directions, 2, SLOTS)`; then that of omega. These
    last for an input's first block alone. Grid: rows, channels, pairs.
    """
    MATRICES: tl.constexpr = 1 + EDGES * DIRECTIONS
    ROWS: tl.constexpr = 32 if TILE > 32 else TILE
    row, channel = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pair, parts = tl.program_id(2), STEPS // BLOCK
    program = channel * tl.num_programs(0).to(tl.int64) + row
    x += program * chunks * STEPS
    grad += program * chunks * STEPS
    padding += row * length
    sums += ((row * tl.num_programs(1) + channel) * (parts * parts) + pair) * WIDTH
    out_first, first = (pair // parts) * BLOCK, (pair % parts) * BLOCK

    column = tl.arange(0, BLOCK)
    for matrix in range(MATRICES):
        reach = _reach(matrix, EDGE, DIRECTIONS)
        both = tl.zeros((BLOCK, BLOCK), ACC)
        for start in range(0, chunks, ROWS):
            chunk = start + tl.arange(0, ROWS)
            u = load_input(x, padding, chunk - reach, chunks, first, length, PADDED, STEPS, BLOCK)
            g = load_block(grad, chunk, chunks, out_first, STEPS, BLOCK)
            both += tl.dot(tl.trans(u), g, input_precision="tf32x3", out_dtype=ACC)
        # Diagonals become columns: those of lags from 0, and of lags below it.
        turned = (column[:, None] + column[None, :]) % BLOCK
        diagonals = tl.gather(both, turned, 1)
        later = column[:, None] + column[None, :] < BLOCK
        of_matrix = sums + matrix * (2 * BLOCK)
        tl.store(of_matrix + BLOCK + column, tl.sum(tl.where(later, diagonals, 0.0), axis=0))
        tl.store(of_matrix + column, tl.sum(tl.where(later, 0.0, diagonals), axis=0))
    if first == 0:
        _state_sums(
            x, grad, padding, log_decay, sums + MATRICES * (2 * BLOCK), channel, out_first,
            length, dim, chunks, PADDED, STEPS, BLOCK, SLICE, DIRECTIONS, LOOKBACK, TILE, STATES, SLOTS, ACC,
        )  # fmt: skip


@triton.jit
def _state_sums(
    x, grad, padding, log_decay, sums, channel, out_first, length, dim, chunks,
    PADDED: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
    SLICE: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    LOOKBACK: tl.constexpr,
    TILE: tl.constexpr,
    STATES: tl.constexpr,
    SLOTS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Gradients by states `(directions, 2, SLOTS)`, and omega's."""
    chunk = tl.arange(0, TILE)
    n = tl.arange(0, SLOTS)
    for direction in range(DIRECTIONS):
        sign = 1 - 2 * direction
        of_weight = tl.zeros((SLOTS,), ACC)
        of_log = of_weight
        if LOOKBACK > 0:
            logs = _coefficients(log_decay, direction, dim, channel, STATES, SLOTS)
            own, own_slope = own_states(
                x, padding, logs, chunk, chunks, length, sign, True, PADDED, STEPS, SLICE, TILE, SLOTS, ACC
            )
            state, slope = begin_states(own, own_slope, logs, chunk, sign, True, LOOKBACK, STEPS, TILE)
            of_state = tl.zeros((TILE, SLOTS), ACC)
            of_slope = of_state
            for first in range(out_first, out_first + BLOCK, SLICE):
                g = load_block(grad, chunk, chunks, first, STEPS, SLICE)
                distance = distance_of(first + tl.arange(0, SLICE), sign, STEPS, ACC)[:, None]
                powers = tl.exp(distance * logs[None, :])
                of_state += product(g, powers, ACC)
                of_slope += product(g, distance * powers, ACC)
            of_weight += tl.sum(of_state * state, axis=0)
            of_log += tl.sum(of_state * slope + of_slope * state, axis=0)
        tl.store(sums + (2 * direction) * SLOTS + n, of_weight)
        tl.store(sums + (2 * direction + 1) * SLOTS + n, of_log)
    both = tl.zeros((TILE, SLICE), ACC)
    for first in range(out_first, out_first + BLOCK, SLICE):
        g = load_block(grad, chunk, chunks, first, STEPS, SLICE).to(ACC)
        both += g * load_block(x, chunk, chunks, first, STEPS, SLICE)
    tl.store(sums + 2 * DIRECTIONS * SLOTS, tl.sum(both))
