"""The norms of `implementations.ops.norms` on states with time innermost: `(batch, dim, length)`."""

from typing import Any

import torch
from torch import Tensor, nn

from implementations.ops.norms import EPSILON, BatchNorm, RMSNorm, ScaleNorm, SequenceNorm


def fused_norm(norm: SequenceNorm, x: Tensor) -> Tensor:
    """The norm of x `(batch, dim, length)`, as `norm` has it on `(batch, length, dim)`."""
    inner = norm.norm
    if isinstance(inner, BatchNorm):
        return nn.BatchNorm1d.forward(inner, x)
    y: Tensor
    if isinstance(inner, nn.LayerNorm):
        y = _ChannelNorm.apply(x, inner.weight, inner.bias, True)  # type: ignore[no-untyped-call]
        return y
    assert isinstance(inner, ScaleNorm | RMSNorm)
    weight = inner.scalar if isinstance(inner, ScaleNorm) else inner.weight
    y = _ChannelNorm.apply(x, weight, None, False)  # type: ignore[no-untyped-call]
    return y


class _ChannelNorm(torch.autograd.Function):
    """`weight·c·rsqrt(mean(c²) + ε) + bias` over the channels; c is x, less its mean where centred.

    weight: `(dim,)`, `(1,)`, or None with bias None.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, centred: bool) -> Tensor:
        mean = x.mean(dim=1, keepdim=True) if centred else None
        c = x if mean is None else x - mean
        rate = (c * c).mean(dim=1, keepdim=True).add_(EPSILON).rsqrt_()
        ctx.save_for_backward(x, mean, rate, weight)
        if weight is None:
            return c * rate
        if weight.numel() == 1:
            return c * (rate * weight)
        normed = (c * rate).mul_(weight.unsqueeze(-1))
        return normed if bias is None else normed.add_(bias.unsqueeze(-1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        x, mean, rate, weight = ctx.saved_tensors
        c = x if mean is None else x - mean
        grad_weight = None
        scaled = grad
        if weight is not None and weight.numel() > 1:
            grad_weight = (grad * c).mul_(rate).sum(dim=(0, 2))
            scaled = grad * weight.unsqueeze(-1)
        along = (scaled * c).mean(dim=1, keepdim=True)
        across = along * rate.pow(3)
        if weight is not None and weight.numel() == 1:
            grad_weight = (along * rate).sum().mul_(x.shape[1]).view(1)
            rate, across = rate * weight, across * weight
        grad_x = (scaled * rate).addcmul_(c, across, value=-1.0)
        if mean is not None:
            grad_x.sub_(rate * scaled.mean(dim=1, keepdim=True))
        grad_bias = grad.sum(dim=(0, 2)) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None
