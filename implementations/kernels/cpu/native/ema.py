"""The damped EMA by scans, and silu, in C: `ema.c` and `silu.c` as operators of torch."""

import torch
from torch import Tensor

from implementations.kernels.cpu.native.calls import call, operator, summed


@operator(
    "silu(Tensor x, float dropout, int seed) -> Tensor",
    lambda x, *_: x.numel(),
)
def silu(x: Tensor, dropout: float, seed: int) -> Tensor:
    """Dropout of silu of x, contiguous."""
    y = torch.empty_like(x)
    call("silu", x, y, x, x.numel(), dropout, seed)
    return y


@operator(
    "silu_gradient(Tensor grad, Tensor x) -> Tensor",
    lambda grad, x: 4 * grad.numel(),
)
def silu_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of x from that of silu of it, both contiguous."""
    y = torch.empty_like(x)
    call("silu_gradient", x, y, grad, x, x.numel())
    return y


@operator(
    "ema_forward(Tensor x, Tensor? padded, Tensor weight, Tensor decay, Tensor omega, bool activated,"
    " float dropout, int seed) -> (Tensor, Tensor)",
    lambda x, padded, weight, *_: 4 * weight.numel() * x[1:].numel(),
)
def ema_forward(
    x: Tensor,
    padded: Tensor | None,
    weight: Tensor,
    decay: Tensor,
    omega: Tensor,
    activated: bool,
    dropout: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """The average of x `(dim, rows, length)`, whose rows are contiguous, and dropout of silu of it.

    padded: `(rows, length)` boolean, contiguous; weight, decay `(directions·dim, states)`; omega `(dim,)`.
    The second tensor is empty if the average is not to be activated.
    """
    average = x.new_empty(x.shape)
    mixed = x.new_empty(x.shape if activated else 0)
    call(
        "ema_forward",
        x,
        *(x, x.stride(0), padded, weight, decay, omega, average, mixed if activated else None),
        *(*_sizes(x, weight), dropout, seed),
    )
    return average, mixed


@operator(
    "ema_backward(Tensor(a!) grad, Tensor? average, Tensor x, Tensor? padded, Tensor weight, Tensor decay,"
    " Tensor omega, Tensor(b!) grad_x, bool add, float dropout, int seed) -> (Tensor, Tensor, Tensor)",
    lambda grad, average, x, padded, weight, *_: 10 * weight.numel() * x[1:].numel(),
)
def ema_backward(
    grad: Tensor,
    average: Tensor | None,
    x: Tensor,
    padded: Tensor | None,
    weight: Tensor,
    decay: Tensor,
    omega: Tensor,
    grad_x: Tensor,
    add: bool,
    dropout: float,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of weight, the decay's logarithm and omega; that of x is written or added to grad_x.

    grad: that of the activated average, contiguous, which becomes that of the average itself. average: None
    if it was not activated. x and grad_x have contiguous rows.
    """
    parts = min(x.shape[1], torch.get_num_threads())
    grad_weight, grad_log_decay = (x.new_zeros(parts, *weight.shape) for _ in range(2))
    grad_omega = x.new_zeros(parts, len(omega))
    call(
        "ema_backward",
        x,
        *(grad, average, x, x.stride(0), padded, weight, decay, omega, grad_x, grad_x.stride(0), int(add)),
        *(grad_weight, grad_log_decay, grad_omega, *_sizes(x, weight), parts, dropout, seed),
    )
    return summed(grad_weight), summed(grad_log_decay), summed(grad_omega)


def _sizes(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    """Directions, dim, rows, length, states."""
    return len(weight) // len(x), *x.shape, weight.shape[1]
