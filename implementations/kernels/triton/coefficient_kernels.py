# mypy: disable-error-code="no-untyped-def, no-untyped-call, assignment"
# ruff: noqa: RUF005 - triton knows no starred tuples
"""Coefficients and taps of the damped EMA from its parameters, and the parameters' gradients: the kernels.

With p = σ(delta) and a = σ(alpha) a state has the decay q = 1 − p·a and the weight p·beta·gamma·SCALE. All
tables are `(directions·dim, states)`. Grid: channels. For the Toeplitz matrices of taps see chunks.Chunks.
"""

import triton
import triton.language as tl

from implementations.kernels.triton.pointwise_kernels import sigmoid

TERMS = tl.constexpr(18)
"""Terms of a series in 1/9 at most: float64's digits."""


@triton.jit
def _log_of_rest(y, ACC: tl.constexpr):
    """ln(1 − y), 0 ≤ y < 1, with all digits of a small y: up to 1/2 −2·artanh(y / (2 − y)) as a series."""
    z = y / (2.0 - y)
    series = (y * 0.0).to(ACC)
    for n in tl.static_range(TERMS):
        series = series * (z * z) + 1.0 / (2 * (TERMS - n) - 1)
    return tl.where(y > 0.5, tl.log(1.0 - tl.maximum(y, 0.5)), -2.0 * z * series)


@triton.jit
def _state_of(parameters, at, inside, SCALE: tl.constexpr, ACC: tl.constexpr):
    """weight and ln q of states."""
    delta, alpha, beta, gamma = parameters
    p = sigmoid(tl.load(delta + at, mask=inside, other=0.0).to(ACC))
    fallen = p * sigmoid(tl.load(alpha + at, mask=inside, other=0.0).to(ACC))
    b = tl.load(beta + at, mask=inside, other=0.0).to(ACC)
    g = tl.load(gamma + at, mask=inside, other=0.0).to(ACC)
    return p * b * g * SCALE, _log_of_rest(fallen, ACC)


@triton.jit
def _lags(offset, matrix, direction, taps,
          STEPS: tl.constexpr, EDGE: tl.constexpr, DIRECTIONS: tl.constexpr):  # fmt: skip
    """Lag of the taps `offset` steps from a Toeplitz matrix's diagonal, and whether a direction has them."""
    chunks = tl.where(matrix == 0, 0, EDGE + (matrix - 1) // DIRECTIONS)
    lag = chunks * STEPS + offset * (1 - 2 * direction)
    ours = (matrix == 0) | ((matrix - 1) % DIRECTIONS == direction)
    return lag, ours & (lag >= 0) & (lag < taps) & (tl.abs(offset) < STEPS)


@triton.jit
def coefficients_kernel(
    parameters, weight, log_decay, table, dim, taps,
    SCALE: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    EDGE: tl.constexpr,
    EDGES: tl.constexpr,
    STATES: tl.constexpr,
    SLOTS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """weight, log_decay = ln q, and the taps of each matrix by lag from −STEPS: table
    `(dim, matrices, 2·STEPS)`."""
    MATRICES: tl.constexpr = 1 + EDGES * DIRECTIONS
    channel = tl.program_id(0)
    n = tl.arange(0, SLOTS)
    table += channel.to(tl.int64) * (MATRICES * 2 * STEPS)
    states = ()
    for direction in tl.static_range(DIRECTIONS):
        at = (direction * dim + channel) * STATES + n
        weights, logs = _state_of(parameters, at, n < STATES, SCALE, ACC)
        states = states + ((weights, logs),)
        tl.store(weight + at, weights, mask=n < STATES)
        tl.store(log_decay + at, logs, mask=n < STATES)
    for matrix in range(MATRICES):
        for first in range(0, 2 * STEPS, BLOCK):
            place = first + tl.arange(0, BLOCK)
            tap = tl.zeros((BLOCK,), ACC)
            for direction in tl.static_range(DIRECTIONS):
                weights, logs = states[direction]
                lag, ours = _lags(place - STEPS, matrix, direction, taps, STEPS, EDGE, DIRECTIONS)
                powers = tl.exp(tl.where(ours, lag, 0).to(ACC)[:, None] * logs[None, :])
                tap += tl.where(ours, tl.sum(powers * weights[None, :], axis=1), 0.0)
            tl.store(table + matrix * (2 * STEPS) + place, tap)


@triton.jit
def coefficients_backward_kernel(
    parameters, log_decay, sums, grads, dim, taps,
    SCALE: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    EDGE: tl.constexpr,
    EDGES: tl.constexpr,
    STATES: tl.constexpr,
    SLOTS: tl.constexpr,
    WIDTH: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Gradients of delta, alpha, beta, gamma and omega from the sums `(dim, parts², WIDTH)` of
    ema_kernels.parameter_sums_kernel."""
    MATRICES: tl.constexpr = 1 + EDGES * DIRECTIONS
    PARTS: tl.constexpr = STEPS // BLOCK
    channel = tl.program_id(0)
    n = tl.arange(0, SLOTS)
    sums += channel.to(tl.int64) * (PARTS * PARTS * WIDTH)
    of_states = sums + MATRICES * 2 * BLOCK
    for direction in tl.static_range(DIRECTIONS):
        at = (direction * dim + channel) * STATES + n
        inside = n < STATES
        logs = tl.load(log_decay + at, mask=inside, other=0.0)
        grad_weight = tl.zeros((SLOTS,), ACC)
        grad_log = grad_weight
        for part in range(PARTS):
            here = of_states + part * (PARTS * WIDTH) + 2 * direction * SLOTS + n
            grad_weight += tl.load(here)
            grad_log += tl.load(here + SLOTS)
        for matrix in range(MATRICES):
            for pair in range(PARTS * PARTS):
                offset = (pair // PARTS - pair % PARTS) * BLOCK
                for half in range(2):
                    place = half * BLOCK + tl.arange(0, BLOCK)
                    lag, ours = _lags(
                        offset + place - BLOCK, matrix, direction, taps, STEPS, EDGE, DIRECTIONS
                    )
                    lag = tl.where(ours, lag, 0).to(ACC)[:, None]
                    g = tl.load(sums + pair * WIDTH + matrix * 2 * BLOCK + place, mask=ours, other=0.0)
                    powers = tl.exp(lag * logs[None, :]) * g[:, None]
                    grad_weight += tl.sum(powers, axis=0)
                    grad_log += tl.sum(lag * powers, axis=0)
        _store_gradients(parameters, grads, at, inside, grad_weight, grad_log, SCALE, ACC)
    of_omega = (channel * 0).to(ACC)
    for part in range(PARTS):
        of_omega += tl.load(of_states + part * (PARTS * WIDTH) + 2 * DIRECTIONS * SLOTS)
    tl.store(grads[4] + channel, of_omega)


@triton.jit
def _store_gradients(
    parameters, grads, at, inside, grad_weight, grad_log_share, SCALE: tl.constexpr, ACC: tl.constexpr
):
    """Gradients of delta, alpha, beta and gamma; grad_log_share: that of ln q over the weight."""
    delta, alpha, beta, gamma = parameters
    d = tl.load(delta + at, mask=inside, other=0.0).to(ACC)
    a = tl.load(alpha + at, mask=inside, other=0.0).to(ACC)
    b = tl.load(beta + at, mask=inside, other=0.0).to(ACC)
    g = tl.load(gamma + at, mask=inside, other=0.0).to(ACC)
    p, share = sigmoid(d), sigmoid(a)
    factor = b * g * SCALE
    # Of ln(1 − p·share) by p·share.
    grad_fallen = -grad_log_share * p * factor / (1.0 - p * share)
    slope = p * sigmoid(-d)
    tl.store(grads[0] + at, (grad_weight * factor + grad_fallen * share) * slope, mask=inside)
    tl.store(grads[1] + at, grad_fallen * p * share * sigmoid(-a), mask=inside)
    tl.store(grads[2] + at, grad_weight * p * g * SCALE, mask=inside)
    tl.store(grads[3] + at, grad_weight * p * b * SCALE, mask=inside)
