"""The norms of `implementations.ops.norms`, and silu before them, with backward passes by hand."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from implementations.kernels.cpu.native.calls import usable
from implementations.kernels.cpu.native.ema import silu, silu_gradient
from implementations.kernels.cpu.native.norm import (
    norm_backward,
    norm_forward,
    row_norm_backward,
    row_norm_forward,
)
from implementations.kernels.cpu.tiles import innermost
from implementations.ops.norms import EPSILON, BatchNorm, RMSNorm, ScaleNorm, SequenceNorm


def silu_of(x: Tensor) -> Tensor:
    """silu of states with time innermost, `(blocks, dim, rows, length)`."""
    y: Tensor = _Silu.apply(x) if usable(x) and x.is_contiguous() else F.silu(x)  # type: ignore[no-untyped-call]
    return y


def channel_norm(norm: SequenceNorm, x: Tensor, activated: bool = False) -> Tensor:
    """`norm` of states with time innermost, `(blocks, dim, rows, length)`; if activated, of silu of them."""
    if isinstance(norm.norm, BatchNorm):
        # The rows of a block as one have the same statistics.
        states = silu_of(x) if activated else x
        return norm.norm.over_channels(states.flatten(2)).view(x.shape)
    return _normed(norm.norm, x, dim=1, activated=activated)


def row_norm(norm: SequenceNorm, x: Tensor) -> Tensor:
    """`norm` on states with channels innermost: `(batch, length, dim)`."""
    if isinstance(norm.norm, nn.LayerNorm):
        # In the precision of x, which is computed in float32 whatever the weights are held in.
        weight, bias = (None if p is None else p.to(x.dtype) for p in (norm.norm.weight, norm.norm.bias))
        return F.layer_norm(x, norm.norm.normalized_shape, weight, bias, norm.norm.eps)
    if isinstance(norm.norm, BatchNorm):
        return norm(x)  # type: ignore[no-any-return]
    return _normed(norm.norm, x, dim=2)


def _normed(norm: nn.Module, x: Tensor, dim: int, activated: bool = False) -> Tensor:
    weight, bias = _affine(norm)
    centred = isinstance(norm, nn.LayerNorm)
    form: type[torch.autograd.Function]
    given: tuple[Any, ...]
    if usable(x):
        # In the precision of x, whatever the weights are held in.
        weight, bias = (None if p is None else p.to(x.dtype) for p in (weight, bias))
        channels = x, weight, bias, centred, activated
        form, given = (_NormInC, channels) if dim == 1 else (_RowNormInC, (x, weight))
    else:
        form, given = _Norm, (F.silu(x) if activated else x, weight, bias, centred, dim)
    y: Tensor = form.apply(*given)  # type: ignore[no-untyped-call]
    return y


def _affine(norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Weight and bias."""
    if isinstance(norm, nn.LayerNorm):
        return norm.weight, norm.bias
    assert isinstance(norm, ScaleNorm | RMSNorm)
    return (norm.scalar if isinstance(norm, ScaleNorm) else norm.weight), None


class _Silu(torch.autograd.Function):
    """silu of contiguous states in C; torch's gradient is slow if the one it gets has channels innermost."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        y: Tensor = silu(x, 0.0, 0)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad_x: Tensor = silu_gradient(innermost(grads[0]), *ctx.saved_tensors)
        return grad_x


class _NormInC(torch.autograd.Function):
    """The norm of states `(blocks, dim, rows, length)`; weight and bias in the precision of x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, centred: bool, activated: bool
    ) -> Tensor:
        x = innermost(x)
        y: Tensor
        y, mean, rate = norm_forward(x, weight, bias, centred, activated, EPSILON)
        ctx.save_for_backward(x, mean, rate, weight)
        ctx.how = bias is not None, activated
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rate, weight = ctx.saved_tensors
        given = innermost(grads[0]), x, mean, rate, weight
        grad_x, grad_weight, grad_bias = norm_backward(*given, *ctx.how)
        biased, _ = ctx.how
        grad_weight = None if weight is None else grad_weight
        return grad_x, grad_weight, grad_bias if biased else None, None, None


class _RowNormInC(torch.autograd.Function):
    """The norm of states `(…, dim)`, neither centred nor shifted; weight in the precision of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x = x.contiguous()
        y: Tensor
        y, rate = row_norm_forward(x, weight, EPSILON)
        ctx.save_for_backward(x, rate, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        grad_x, grad_weight = row_norm_backward(grads[0].contiguous(), *ctx.saved_tensors)
        return grad_x, grad_weight


class _Norm(torch.autograd.Function):
    """`weight·c·rsqrt(mean(c²) + ε) + bias` over the channels; c is x, minus its mean if centred.

    weight: `(dim,)`, `(1,)`, or None with bias None; dim: dimension of x's channels.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, centred: bool, dim: int
    ) -> Tensor:
        mean = x.mean(dim=dim, keepdim=True) if centred else None
        c = x if mean is None else x - mean
        rate = (c * c).mean(dim=dim, keepdim=True).add_(EPSILON).rsqrt_()
        ctx.save_for_backward(x, mean, rate, weight)
        ctx.dim = dim
        if weight is None:
            return c * rate
        if weight.numel() == 1:
            return c * (rate * weight)
        normed = (c * rate).mul_(_along(weight, dim))
        return normed if bias is None else normed.add_(_along(bias, dim))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, dim = grads[0], ctx.dim
        x, mean, rate, weight = ctx.saved_tensors
        c = x if mean is None else x - mean
        grad_weight, scaled, others = None, grad, tuple(d for d in range(grad.dim()) if d != dim)
        if weight is not None and weight.numel() > 1:
            grad_weight = (grad * c).mul_(rate).sum(dim=others)
            scaled = grad * _along(weight, dim)
        along = (scaled * c).mean(dim=dim, keepdim=True)
        across = along * rate.pow(3)
        if weight is not None and weight.numel() == 1:
            grad_weight = (along * rate).sum().mul_(x.shape[dim]).view(1)
            rate, across = rate * weight, across * weight
        grad_x = (scaled * rate).addcmul_(c, across, value=-1.0)
        if mean is not None:
            grad_x.sub_(rate * scaled.mean(dim=dim, keepdim=True))
        grad_bias = grad.sum(dim=others) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None, None


def _along(weight: Tensor, dim: int) -> Tensor:
    return weight if dim == 2 else weight.view(-1, 1, 1)
