"""The damped EMA as a scan in chunks, with the operations before and after it: a norm, silu and dropout.

The plain form is `implementations.ops.ema.DampedEMA`, which also gives the coefficients. No Fourier
transform, no kernel of taps: cost and memory are linear in the length.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from implementations.kernels.triton.coefficients import (
    Coefficients,
    coefficients,
    coefficients_backward,
)
from implementations.kernels.triton.ema_kernels import (
    average_kernel,
    chunk_states_kernel,
    parameter_gradients_kernel,
)
from implementations.kernels.triton.launch import ACCUMULATORS, accumulator, blocks, draw_seed, launch
from implementations.kernels.triton.norms import RowNorm, moments, norm_backward
from implementations.kernels.triton.pointwise_kernels import silu_backward_kernel
from implementations.kernels.triton.scan import CHANNELS, Scan, ScanInput
from implementations.kernels.triton.work import Work
from implementations.ops.ema import DampedEMA


def chunk_states(
    source: ScanInput, by: Coefficients, scan: Scan, *, adjoint: bool = False, slope: bool = False
) -> Tensor:
    """States after each chunk on its own: see the kernel."""
    rows, length, dim = source.x.shape
    steps, rest = scan.steps(length), scan.reach(length)[1]
    chunks = blocks(length, steps)
    size = (scan.directions, rows, chunks, 1 + (rest > 0), (1 + slope) * by.weight.shape[1], dim)
    states = source.x.new_empty(size, dtype=by.weight.dtype)
    flags = {**source.flags, "PADDED": source.padding is not None and not adjoint}
    launch(
        chunk_states_kernel,
        (rows * chunks, blocks(dim, CHANNELS), scan.directions),
        source.pointers,
        by.decay,
        by.log_decay,
        states,
        length,
        dim,
        steps,
        chunks,
        rest,
        ADJOINT=int(adjoint),
        REST=rest > 0,
        SLOPE=slope,
        **flags,
        BLOCK=CHANNELS,
        **by.options,
        work=lambda: Work(
            (*source.moves(scan.directions), states), other=scan.flops(source.x, by, 3 + 3 * slope)
        ),
    )
    return states


def average(
    source: ScanInput, by: Coefficients, scan: Scan, seed: Tensor, *, adjoint: bool = False
) -> tuple[Tensor, Tensor]:
    """The result, and the average itself, which is the result unless the scan is activated."""
    x = source.x
    rows, length, dim = x.shape
    steps, (lookback, rest) = scan.steps(length), scan.reach(length)
    chunks = blocks(length, steps)
    truncated = scan.taps < length
    states = chunk_states(source, by, scan, adjoint=adjoint)
    out = torch.empty_like(x)
    alone = torch.empty_like(x) if scan.activated else out
    wide = alone.dtype == by.weight.dtype
    partial = alone if wide or not scan.bidirectional else torch.empty_like(x, dtype=by.weight.dtype)
    launch(
        average_kernel,
        (rows * chunks, blocks(dim, CHANNELS)),
        source.pointers,
        (by.weight, by.decay, by.log_decay, by.omega),
        states,
        partial,
        alone,
        out,
        seed,
        length,
        dim,
        steps,
        chunks,
        scan.taps,
        lookback,
        ADJOINT=int(adjoint),
        TRUNCATED=truncated,
        REST=rest > 0,
        DIRECTIONS=scan.directions,
        ACTIVATED=scan.activated,
        DROPOUT=scan.dropout,
        **source.flags,
        BLOCK=CHANNELS,
        **by.options,
        work=lambda: Work(
            (
                *source.moves(scan.directions * (1 + truncated)),
                *(partial,) * (2 if scan.bidirectional else 0),
                *((alone, out) if scan.activated else (out,)),
                states,
            ),
            other=scan.flops(x, by, 5 + 2 * truncated),
        ),
    )
    return out, alone


def parameter_gradients(source: ScanInput, grad: Tensor, by: Coefficients, scan: Scan) -> Tensor:
    """Sums `(directions, 2·states + 1, dim)` from the gradient of the average: the gradient of each weight,
    that of each ln q over its weight, and in the first direction that of omega."""
    rows, length, dim = source.x.shape
    steps, (lookback, rest) = scan.steps(length), scan.reach(length)
    chunks, states, truncated = blocks(length, steps), by.weight.shape[1], scan.taps < length
    size = (scan.directions, rows * chunks, 2 * states + 1, dim)
    sums = source.x.new_empty(size, dtype=by.weight.dtype)
    chunks_states = chunk_states(source, by, scan, slope=True)
    launch(
        parameter_gradients_kernel,
        (rows * chunks, blocks(dim, CHANNELS), scan.directions),
        source.pointers,
        grad,
        by.decay,
        by.log_decay,
        chunks_states,
        sums,
        length,
        dim,
        steps,
        chunks,
        scan.taps,
        lookback,
        TRUNCATED=truncated,
        REST=rest > 0,
        **source.flags,
        BLOCK=CHANNELS,
        **by.options,
        work=lambda: Work(
            (
                *source.moves(scan.directions * (1 + truncated)),
                *(grad,) * scan.directions,
                chunks_states,
                sums,
            ),
            other=scan.flops(source.x, by, 10 + 5 * truncated),
        ),
    )
    return sums.sum(dim=1)


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
        scan: Scan,
    ) -> Tensor:
        mean, rstd = (None, None) if gain is None else moments(x, centred)
        source = ScanInput(x, mean, rstd, gain, shift, padding)
        parameters = (delta, alpha, beta, gamma)
        by = coefficients(parameters, omega, accumulator(x))
        seed = draw_seed(scan.dropout, x)
        result, alone = average(source, by, scan, seed)
        ctx.save_for_backward(
            *(x, mean, rstd, gain, shift, padding),
            *(by.weight, by.decay, by.log_decay, omega),
            *parameters,
            *(seed, alone if scan.activated else None),
        )
        ctx.scan, ctx.centred = scan, centred
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, seed, alone = ctx.saved_tensors
        source, by, parameters = ScanInput(*tensors[:6]), Coefficients(*tensors[6:10]), tensors[10:]
        grad = grads[0].contiguous()
        if alone is not None:
            grad = _silu_backward(grad, alone, seed, ctx.scan.dropout)
        plain = replace(ctx.scan, activated=False, dropout=0.0)
        grad_x, _ = average(ScanInput(grad, padding=source.padding), by, plain, seed, adjoint=True)
        sums = parameter_gradients(source, grad, by, plain)
        of_parameters = (*coefficients_backward(tuple(parameters), sums), sums[0, -1])
        if source.mean is None or source.rstd is None or source.gain is None:
            return grad_x, None, None, *of_parameters, None, None, None
        of_norm = norm_backward(grad_x, source.x, source.mean, source.rstd, source.gain, ctx.centred)
        return *of_norm, *of_parameters, None, None, None


def _silu_backward(grad: Tensor, x: Tensor, seed: Tensor, dropout: float) -> Tensor:
    out = torch.empty_like(x)
    dtype = ACCUMULATORS[accumulator(x)]
    grid = (blocks(x.numel(), 1024),)
    launch(
        silu_backward_kernel,
        grid,
        grad,
        x,
        out,
        seed,
        x.numel(),
        DROPOUT=dropout,
        BLOCK=1024,
        ACC=dtype,
        work=lambda: Work((grad, x, out)),
    )
    return out


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

    x `(batch, length, dim)`, padding_mask `(batch, length)`, True at padding. chunk: time steps of a chunk of
    the scan, None for the usual. Computed in float32 at least; the result has the shape and precision of x.
    """
    dtype, length = accumulator(x), x.shape[1]
    scan = Scan(ema.bidirectional, min(ema.truncation or length, length), activated, dropout, chunk)
    result: Tensor = _Average.apply(  # type: ignore[no-untyped-call]
        x.contiguous(),
        None if norm is None else norm.gain,
        None if norm is None else norm.shift,
        *(ema.delta, ema.alpha, ema.beta, ema.gamma),
        ema.omega.to(dtype),
        None if padding_mask is None else padding_mask.contiguous(),
        norm is not None and norm.centred,
        scan,
    )
    return result
