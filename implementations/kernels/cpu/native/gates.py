"""Passes between the products of gated attention units in C: `gates.c` as operators of torch."""

import torch
from torch import Tensor

from implementations.kernels.cpu.native.calls import call, operator, parts_of, summed


@operator(
    "unit_inputs(Tensor before, Tensor v_before, Tensor gamma, Tensor beta, Tensor scales, Tensor? turns,"
    " Tensor? slots, Tensor(a!) v, Tensor(b!) qk) -> Tensor",
    lambda before, *_: 4 * before.numel(),
)
def unit_inputs(
    before: Tensor,
    v_before: Tensor,
    gamma: Tensor,
    beta: Tensor,
    scales: Tensor,
    turns: Tensor | None,
    slots: Tensor | None,
    v: Tensor,
    qk: Tensor,
) -> Tensor:
    """Write values and queries beside keys; returns the gate r `(steps, hidden)`.

    Before silu: z beside r `(steps, z + hidden)` and v `(steps, hidden)`, whose rows are contiguous. gamma
    and beta `(2, z)`; scales `(steps,)` of the queries; turns `(steps, z/2, 2)`: cosines and sines. v
    `(memory, hidden)` and qk `(memory, 2·z)` are written at slots `(steps,)` int64, or in order without.
    """
    (steps, hidden), z = v_before.shape, gamma.shape[1]
    r = before.new_empty(steps, hidden)
    pitches = before.stride(0), v_before.stride(0)
    arrays = gamma, beta, scales, turns, slots, r, v, qk
    call("unit_inputs", before, before, v_before, *pitches, *arrays, steps, z, hidden)
    return r


@operator(
    "gate_backward(Tensor grad_gated, Tensor attended, Tensor r, Tensor? slots, Tensor(a!) upstream)"
    " -> (Tensor, Tensor)",
    lambda grad_gated, *_: 4 * grad_gated.numel(),
)
def gate_backward(
    grad_gated: Tensor, attended: Tensor, r: Tensor, slots: Tensor | None, upstream: Tensor
) -> tuple[Tensor, Tensor]:
    """Write the gradient of what attention gave to upstream `(memory, hidden)`, at slots or in order.

    Returns `attended·r` `(steps, hidden)`, and the sum of it times grad_gated `(steps,)`.
    """
    gated, sums = torch.empty_like(attended), attended.new_empty(len(attended))
    call("gate_backward", attended, grad_gated, attended, r, slots, gated, upstream, sums, *attended.shape)
    return gated, sums


@operator(
    "unit_backward(Tensor before, Tensor v_before, Tensor gamma, Tensor scales, Tensor? turns, Tensor? slots,"
    " Tensor grad_gated, Tensor attended, Tensor grad_q, Tensor grad_k, Tensor grad_v,"
    " Tensor(a!) grad_before, Tensor(b!) grad_v_before) -> (Tensor, Tensor, Tensor)",
    lambda before, *_: 8 * before.numel(),
)
def unit_backward(
    before: Tensor,
    v_before: Tensor,
    gamma: Tensor,
    scales: Tensor,
    turns: Tensor | None,
    slots: Tensor | None,
    grad_gated: Tensor,
    attended: Tensor,
    grad_q: Tensor,
    grad_k: Tensor,
    grad_v: Tensor,
    grad_before: Tensor,
    grad_v_before: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradients of what was before silu; returns those of gamma, beta and biases `(z + 2·hidden,)`.

    grad_q, grad_k `(memory, z)` and grad_v `(memory, hidden)` are read at slots. The gradients that are
    written lie in memory as what they are of does; all else is as in `unit_inputs`.
    """
    (steps, hidden), z = v_before.shape, gamma.shape[1]
    parts = parts_of(steps)
    grad_gamma, grad_beta = (gamma.new_zeros(parts, *gamma.shape) for _ in range(2))
    grad_bias = before.new_zeros(parts, z + 2 * hidden)
    pitches = before.stride(0), v_before.stride(0)
    assert (grad_before.stride(0), grad_v_before.stride(0)) == pitches
    call(
        "unit_backward",
        before,
        *(before, v_before, *pitches, gamma, scales, turns, slots, grad_gated, attended),
        *(grad_q, grad_k, grad_v, grad_before, grad_v_before, grad_gamma, grad_beta, grad_bias),
        *(steps, z, hidden, parts),
    )
    return summed(grad_gamma), summed(grad_beta), summed(grad_bias)


@operator(
    "output_forward(Tensor projected, Tensor x, float dropout, int seed) -> Tensor",
    lambda projected, x, *_: 4 * x.numel(),
)
def output_forward(projected: Tensor, x: Tensor, dropout: float, seed: int) -> Tensor:
    """`x + σ(update)·(dropout(silu(candidate)) − x)` of x `(steps, dim)`, the end of a MEGA unit.

    update and candidate are the first and the last dim columns of projected `(steps, width)`.
    """
    y = torch.empty_like(x)
    call("output_forward", x, projected, x, y, *x.shape, projected.shape[1], dropout, seed)
    return y


@operator(
    "output_backward(Tensor grad, Tensor projected, Tensor x, Tensor(a!) grad_projected, float dropout,"
    " int seed) -> (Tensor, Tensor)",
    lambda grad, *_: 10 * grad.numel(),
)
def output_backward(
    grad: Tensor, projected: Tensor, x: Tensor, grad_projected: Tensor, dropout: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Write the gradients of update and candidate; returns that of x, and both biases' `(2, dim)`."""
    parts, grad_x = parts_of(len(x)), torch.empty_like(x)
    grad_bias = x.new_zeros(parts, 2, x.shape[1])
    arrays = grad, projected, x, grad_projected, grad_x, grad_bias
    call("output_backward", x, *arrays, *x.shape, projected.shape[1], parts, dropout, seed)
    return grad_x, summed(grad_bias)
