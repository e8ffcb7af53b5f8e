# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Coefficients of the damped EMA from its parameters, and the parameters' gradients: the kernels.

With p = σ(delta) and a = σ(alpha) a state has the decay q = 1 − p·a and the weight p·beta·gamma·SCALE. All
tables are `(kernels, states)`. Grid: blocks of their elements.
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
def coefficients_kernel(
    delta, alpha, beta, gamma, weight, decay, log_decay, count,
    SCALE: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """weight, decay = q − 1 and log_decay = ln q."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    p = sigmoid(tl.load(delta + at, mask=inside, other=0.0).to(ACC))
    fallen = p * sigmoid(tl.load(alpha + at, mask=inside, other=0.0).to(ACC))
    b = tl.load(beta + at, mask=inside, other=0.0).to(ACC)
    g = tl.load(gamma + at, mask=inside, other=0.0).to(ACC)
    tl.store(weight + at, p * b * g * SCALE, mask=inside)
    tl.store(decay + at, -fallen, mask=inside)
    tl.store(log_decay + at, _log_of_rest(fallen, ACC), mask=inside)


@triton.jit
def coefficients_backward_kernel(
    delta, alpha, beta, gamma, sums, grad_delta, grad_alpha, grad_beta, grad_gamma, count, dim,
    SCALE: tl.constexpr, STATES: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """sums `(directions, 2·states + 1, dim)`: gradient of each weight, and of each ln q over its weight."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    kernel, state = at // STATES, at % STATES
    of_sums = sums + ((kernel // dim) * (2 * STATES + 1) + state) * dim + kernel % dim
    grad_weight = tl.load(of_sums, mask=inside, other=0.0)
    d = tl.load(delta + at, mask=inside, other=0.0).to(ACC)
    a = tl.load(alpha + at, mask=inside, other=0.0).to(ACC)
    b = tl.load(beta + at, mask=inside, other=0.0).to(ACC)
    g = tl.load(gamma + at, mask=inside, other=0.0).to(ACC)
    p, share = sigmoid(d), sigmoid(a)
    factor = b * g * SCALE
    grad_log = tl.load(of_sums + STATES * dim, mask=inside, other=0.0) * p * factor
    # Of ln(1 − p·share) by p·share.
    grad_fallen = -grad_log / (1.0 - p * share)
    slope = p * sigmoid(-d)
    tl.store(grad_delta + at, (grad_weight * factor + grad_fallen * share) * slope, mask=inside)
    tl.store(grad_alpha + at, grad_fallen * p * share * sigmoid(-a), mask=inside)
    tl.store(grad_beta + at, grad_weight * p * g * SCALE, mask=inside)
    tl.store(grad_gamma + at, grad_weight * p * b * SCALE, mask=inside)
