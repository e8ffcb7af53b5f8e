"""The damped EMA in matrix form, in chunks, with the operations before and after it: norm, silu and dropout.

The plain form is `implementations.ops.ema.DampedEMA`. No Fourier transform: memory is linear in the length,
and so is the work of rows up to 16384 steps.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from implementations.kernels.triton.chunks import Average, Chunks
from implementations.kernels.triton.coefficients import (
    Coefficients,
    coefficients,
    coefficients_backward,
    width_of_sums,
)
from implementations.kernels.triton.ema_kernels import average_kernel, parameter_sums_kernel
from implementations.kernels.triton.launch import accumulator, draw_seed, launch
from implementations.kernels.triton.norms import RowNorm, moments, norm_backward
from implementations.kernels.triton.transpose import EmaInput, from_channels, gradient_to_channels
from implementations.kernels.triton.work import Work
from implementations.ops.ema import DampedEMA

HALVES = (torch.bfloat16, torch.float16)


def _average(
    x: Tensor, padding: Tensor | None, by: Coefficients, chunks: Chunks, *, adjoint: bool = False
) -> Tensor:
    """The average of x `(dim, rows, time)`, plus omega·x."""
    dim, rows, _ = x.shape
    out = torch.empty_like(x)
    launch(
        average_kernel,
        (rows, dim, chunks.parts),
        x,
        x if padding is None else padding,
        by.weight,
        by.log_decay,
        by.omega,
        by.taps,
        out,
        chunks.length,
        dim,
        chunks.count,
        ADJOINT=int(adjoint),
        PADDED=padding is not None,
        LOOKBACK=chunks.lookback,
        SLICE=chunks.slice,
        TILE=chunks.tile,
        **chunks.options,
        **by.options,
        num_warps=chunks.warps,
        num_stages=1,
        work=lambda: _work(x, (x, out), by, chunks, gradients=False),
    )
    return out


def _parameter_sums(
    x: Tensor, grad: Tensor, padding: Tensor | None, by: Coefficients, chunks: Chunks
) -> Tensor:
    """Sums over time and rows `(dim, pairs, width)` for the gradients of the parameters: see the kernel.

    x and grad, the gradient of the average, `(dim, rows, time)`.
    """
    dim, rows, _ = x.shape
    width = width_of_sums(chunks, by.weight.shape[1])
    # Not every pair of blocks has sums by states.
    new = by.weight.new_empty if chunks.parts == 1 else by.weight.new_zeros
    sums = new(rows, dim, chunks.parts**2, width)
    launch(
        parameter_sums_kernel,
        (rows, dim, chunks.parts**2),
        x,
        grad,
        x if padding is None else padding,
        by.log_decay,
        sums,
        chunks.length,
        dim,
        chunks.count,
        PADDED=padding is not None,
        LOOKBACK=chunks.lookback,
        SLICE=chunks.slice,
        TILE=chunks.tile,
        WIDTH=width,
        **chunks.options,
        **by.options,
        num_warps=chunks.warps,
        num_stages=1,
        work=lambda: _work(x, (x, grad, sums), by, chunks, gradients=True),
    )
    return sums.sum(dim=0)


def _work(x: Tensor, moves: tuple[Tensor, ...], by: Coefficients, chunks: Chunks, *, gradients: bool) -> Work:
    """Products of a pass: by Toeplitz matrices, to states and from them.

    In float32 each is three in TF32, as those from states always are; else two of x's type, if one factor has
    more digits than x.
    """
    slots = by.options["SLOTS"] * chunks.directions if chunks.lookback else 0
    each = 2 * x.shape[0] * x.shape[1] * chunks.steps  # FLOPs per chunk, and per column of a factor.
    matrices = each * (chunks.summed if gradients else chunks.tile) * chunks.matrices * chunks.steps
    # For gradients by states, every block makes states and slopes anew, and sums by both.
    to_states = each * chunks.tile * slots * (2 * chunks.parts + 2 if gradients else chunks.parts)
    from_states = 0 if gradients else each * chunks.tile * slots
    if x.dtype not in HALVES:
        return Work(moves, tf32=matrices + to_states + from_states)
    repeated = to_states if gradients else matrices + to_states
    return Work(moves, products=matrices + to_states, repeated=repeated, tf32=from_states)


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor | None,
        shift: Tensor | None,
        delta: Tensor,
        alpha: Tensor,
        beta: Tensor,
        gamma: Tensor,
        omega: Tensor,
        padding: Tensor | None,
        centred: bool,
        how: Average,
    ) -> Tensor:
        mean, rstd = (None, None) if gain is None else moments(x, centred)
        source = EmaInput(x, mean, rstd, gain, shift)
        parameters = (delta, alpha, beta, gamma)
        chunks = Chunks.of(how, x.shape[1])
        by = coefficients(parameters, omega, chunks, accumulator(x))
        seed = draw_seed(how.dropout, x)
        turned = _average(source.to_channels(chunks), padding, by, chunks)
        result, alone = from_channels(turned, x, seed, how, chunks)
        ctx.save_for_backward(
            *(x, mean, rstd, gain, shift),
            *(by.weight, by.log_decay, omega, by.taps),
            *parameters,
            *(padding, seed, alone if how.activated else None),
        )
        ctx.how, ctx.centred = how, centred
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, padding, seed, alone = ctx.saved_tensors
        source, by, parameters = EmaInput(*tensors[:5]), Coefficients(*tensors[5:9]), tuple(tensors[9:])
        x, how = source.x, ctx.how
        chunks, grad = Chunks.of(how, x.shape[1]), grads[0].contiguous()
        if alone is None:
            turned = EmaInput(grad).to_channels(chunks)
        else:
            turned = gradient_to_channels(grad, alone, seed, how.dropout, chunks)
        grad_turned = _average(turned, padding, by, chunks, adjoint=True)
        sums = _parameter_sums(source.to_channels(chunks), turned, padding, by, chunks)
        plain = replace(how, activated=False, dropout=0.0)
        grad_x, _ = from_channels(grad_turned, x, seed, plain, chunks)
        of_parameters = coefficients_backward(parameters, by, chunks, sums)
        if source.mean is None or source.rstd is None or source.gain is None:
            return grad_x, None, None, *of_parameters, None, None, None
        of_norm = norm_backward(grad_x, x, source.mean, source.rstd, source.gain, ctx.centred)
        return *of_norm, *of_parameters, None, None, None


def damped_ema(
    ema: DampedEMA,
    x: Tensor,
    padding_mask: Tensor | None = None,
    *,
    norm: RowNorm | None = None,
    activated: bool = False,
    dropout: float = 0.0,
    chunk: int | None = None,
) -> Tensor:
    """`ema(norm(x), padding_mask)` or, if activated, `dropout(silu(ema(norm(x), padding_mask)))`.

    x `(batch, length, dim)`, padding_mask `(batch, length)`, True at padding. chunk: time steps of a chunk, a
    power of two of at least 16, None for the usual. Sums are float32 at least; the result has the shape and
    precision of x.
    """
    result: Tensor = _Average.apply(  # type: ignore[no-untyped-call]
        x.contiguous(),
        None if norm is None else norm.gain,
        None if norm is None else norm.shift,
        *(ema.delta, ema.alpha, ema.beta, ema.gamma),
        ema.omega.to(accumulator(x)),
        None if padding_mask is None else padding_mask.contiguous(),
        norm is not None and norm.centred,
        Average(ema.bidirectional, ema.truncation, activated, dropout, chunk),
    )
    return result
