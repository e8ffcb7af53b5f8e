"""Norms over the channels of states with time innermost in C: `norm.c` as operators of torch."""

import torch
from torch import Tensor

from implementations.kernels.cpu.native.calls import call, operator, parts_of, summed

FLOPS = 5
"""An element of a norm: mean, difference, square, sum, product."""


@operator(
    "norm_forward(Tensor x, Tensor? weight, Tensor? bias, bool centred, bool activated, float epsilon)"
    " -> (Tensor, Tensor, Tensor)",
    lambda x, *_: FLOPS * x.numel(),
)
def norm_forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, centred: bool, activated: bool, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`weight·c·rate + bias` of x `(blocks, dim, rows, length)`, contiguous; the mean and the rate.

    activated: whether silu of x is normed, in place of x.
    weight: `(dim,)`, `(1,)` or None; bias: `(dim,)` or None. Mean and rate `(blocks, rows, length)`; the mean
    is empty if x is not centred.
    """
    y, rate = torch.empty_like(x), x.new_empty(x[:, 0].shape)
    mean = torch.empty_like(rate) if centred else x.new_empty(0)
    sizes = *_sizes(x), int(_is_scalar(weight)), int(activated)
    call("norm_forward", x, x, weight, bias, mean if centred else None, rate, y, *sizes, epsilon)
    return y, mean, rate


@operator(
    "norm_backward(Tensor grad, Tensor x, Tensor mean, Tensor rate, Tensor? weight, bool biased,"
    " bool activated) -> (Tensor, Tensor, Tensor)",
    lambda grad, *_: 2 * FLOPS * grad.numel(),
)
def norm_backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rate: Tensor,
    weight: Tensor | None,
    biased: bool,
    activated: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, the weight and the bias; empty where there is none. grad: contiguous."""
    parts, grad_x = parts_of(rate.numel()), torch.empty_like(x)
    grad_weight = x.new_zeros(parts, 0 if weight is None else len(weight))
    grad_bias = x.new_zeros(parts, x.shape[1] if biased else 0)
    call(
        "norm_backward",
        x,
        *(grad, x, weight, mean if mean.numel() else None, rate, grad_x),
        *(None if weight is None else grad_weight, grad_bias if biased else None),
        *(*_sizes(x), int(_is_scalar(weight)), int(activated), parts),
    )
    return grad_x, summed(grad_weight), summed(grad_bias)


@operator(
    "row_norm_forward(Tensor x, Tensor weight, float epsilon) -> (Tensor, Tensor)",
    lambda x, *_: FLOPS * x.numel(),
)
def row_norm_forward(x: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """`weight·x·rate` of x `(…, dim)`, contiguous, and the rate `(…,)`; weight `(dim,)` or `(1,)`."""
    y, rate = torch.empty_like(x), x.new_empty(x.shape[:-1])
    sizes = x.shape[-1], rate.numel(), int(_is_scalar(weight))
    call("row_norm_forward", x, x, weight, rate, y, *sizes, epsilon)
    return y, rate


@operator(
    "row_norm_backward(Tensor grad, Tensor x, Tensor rate, Tensor weight) -> (Tensor, Tensor)",
    lambda grad, *_: 2 * FLOPS * grad.numel(),
)
def row_norm_backward(grad: Tensor, x: Tensor, rate: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and the weight. grad: contiguous."""
    parts, grad_x = parts_of(rate.numel()), torch.empty_like(x)
    grad_weight = x.new_zeros(parts, len(weight))
    sizes = x.shape[-1], rate.numel(), int(_is_scalar(weight)), parts
    call("row_norm_backward", x, grad, x, weight, rate, grad_x, grad_weight, *sizes)
    return grad_x, summed(grad_weight)


def _is_scalar(weight: Tensor | None) -> bool:
    return weight is not None and weight.numel() == 1


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """Blocks, dim, steps."""
    return x.shape[0], x.shape[1], x[0, 0].numel()
